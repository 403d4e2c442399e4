/*
 * The library does not affect its host. Descriptors are close-on-exec, and all are closed at the end. No thread
 * remains, and none takes the host's signals. Signal handlers, environment, working directory and umask do not change.
 * The library prints nothing on stdout and stderr: messages go to the log callback.
 */
#include <image_cache.h>

#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>

enum { MAX_DESCRIPTORS = 512, MAX_SIGNALS = 65 };

extern char **environ;

static struct {
    bool descriptors[MAX_DESCRIPTORS];
    struct sigaction signals[MAX_SIGNALS];
    sigset_t blocked;
    int threads, variables;
    char directory[PATH_MAX];
    mode_t mask;
} before;

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    int threads = 0;
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks))
        threads += task->d_name[0] != '.';
    closedir(tasks);
    return threads;
}

/* A thread's blocked signals as a bit mask. Signal 1 is the lowest bit. */
static unsigned long long blocked_signals(const char *task)
{
    char path[300], line[128];
    unsigned long long blocked = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *status = fopen(path, "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "SigBlk:", 7) == 0)
            blocked = strtoull(line + 7, NULL, 16);
    fclose(status);
    return blocked;
}

/* Valgrind emulates signal masks, so the kernel's masks are valgrind's. It preloads a library of its own. */
static bool kernel_has_our_masks(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded == NULL || strstr(preloaded, "vgpreload") == NULL;
}

/* A thread of the library blocks every signal. glibc reserves the first two real-time signals. */
static void all_signals_are_blocked(const char *task)
{
    unsigned long long blocked = blocked_signals(task);
    for (int number = 1; number < MAX_SIGNALS; number++)
        if (number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN))
            CHECK((blocked >> (number - 1) & 1) == 1);
}

/* Checks the signal masks of the hashing threads, and returns their number. */
static int check_hashing_threads(void)
{
    static const char prefix[] = "image-";
    char path[300], name[32];
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    int threads = 0;
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (comm == NULL)
            continue;
        if (fgets(name, sizeof name, comm) != NULL && strncmp(name, prefix, sizeof prefix - 1) == 0) {
            if (kernel_has_our_masks())
                all_signals_are_blocked(task->d_name);
            threads++;
        }
        fclose(comm);
    }
    closedir(tasks);
    return threads;
}

/* The kernel lists a thread for a short time after pthread_join() has returned. */
static void no_thread_is_left(void)
{
    for (int tries = 0; tries < 100000 && count_threads() != before.threads; tries++)
        sched_yield();
    CHECK(count_threads() == before.threads);
}

/* A long image with digests leaves no thread behind, however its writer ends. */
static void hash_on_threads(image_cache_t *cache)
{
    enum { COMMIT, ABORT, CHUNK_TOO_MANY, WAYS };
    static const char zeros[1 << 20];
    static const char md5[] = "00000000000000000000000000000000";
    for (int way = 0; way < WAYS; way++) {
        image_cache_writer_t *writer = NULL;
        OK(image_cache_begin_write(cache, "long", &writer, &check_error));
        OK(image_cache_writer_expect_size(writer, 9 * sizeof zeros, &check_error));
        OK(image_cache_writer_expect_digest(writer, "md5", md5, &check_error));
        OK(image_cache_writer_expect_digest(
            writer, "sha256", "0000000000000000000000000000000000000000000000000000000000000000", &check_error));
        for (int chunk = 0; chunk < 4; chunk++)
            OK(image_cache_write_chunk(writer, zeros, sizeof zeros, &check_error));
        CHECK(count_threads() == before.threads);
        for (int chunk = 4; chunk < 9; chunk++)
            OK(image_cache_write_chunk(writer, zeros, sizeof zeros, &check_error));
        CHECK(check_hashing_threads() == 2 && count_threads() == before.threads + 2);
        if (way == COMMIT) {
            STATUS(IMAGE_CACHE_ERROR_DIGEST_MISMATCH, image_cache_commit(writer, &check_error));
        } else if (way == ABORT) {
            image_cache_abort(writer, "tested");
        } else {
            STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_write_chunk(writer, zeros, 1, &check_error));
            no_thread_is_left();
            image_cache_abort(writer, NULL);
        }
        no_thread_is_left();
    }
}

static int count_variables(void)
{
    int variables = 0;
    while (environ != NULL && environ[variables] != NULL)
        variables++;
    return variables;
}

static mode_t current_mask(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return mask;
}

static void save_host_state(void)
{
    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++)
        before.descriptors[fd] = fcntl(fd, F_GETFD) != -1;
    for (int number = 1; number < MAX_SIGNALS; number++)
        sigaction(number, NULL, &before.signals[number]);
    sigprocmask(SIG_SETMASK, NULL, &before.blocked);
    before.threads = count_threads();
    before.variables = count_variables();
    before.mask = current_mask();
    CHECK(getcwd(before.directory, sizeof before.directory) != NULL);
}

/* Counts the descriptors that were not open at the start, and tests whether all are close-on-exec. */
static int count_new_descriptors(bool *all_close_on_exec)
{
    int count = 0;
    *all_close_on_exec = true;
    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags == -1 || before.descriptors[fd])
            continue;
        count++;
        if ((flags & FD_CLOEXEC) == 0) {
            char link[64], target[PATH_MAX] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            CHECK(readlink(link, target, sizeof target - 1) > 0);
            fprintf(check_output, "descriptor %d is inherited by exec: %s\n", fd, target);
            *all_close_on_exec = false;
        }
    }
    return count;
}

static void host_state_is_unchanged(void)
{
    char directory[PATH_MAX];
    sigset_t blocked;
    for (int number = 1; number < MAX_SIGNALS; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0)
            CHECK(now.sa_handler == before.signals[number].sa_handler);
    }
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int number = 1; number < MAX_SIGNALS; number++)
        CHECK(sigismember(&blocked, number) == sigismember(&before.blocked, number));
    CHECK(count_variables() == before.variables);
    CHECK(current_mask() == before.mask);
    CHECK(getcwd(directory, sizeof directory) != NULL && strcmp(directory, before.directory) == 0);
}

static struct {
    int messages, invalid;
} logged;

static void log_message(void *user_data, int32_t level, const char *message)
{
    logged.messages++;
    if (user_data != &logged || level < IMAGE_CACHE_LOG_ERROR || level > IMAGE_CACHE_LOG_DEBUG || message == NULL
        || message[0] == '\0')
        logged.invalid++;
}

static image_cache_t *open_with_log(image_cache_log_fn log)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    OK(image_cache_options_set_log(options, log, &logged, &check_error));
    OK(image_cache_open(in_directory("cache"), options, &cache, &check_error));
    image_cache_options_free(options); /* the cache has a copy */
    return cache;
}

/* Calls that succeed, and calls that fail in ways about which a library might print. */
static void work_and_fail(image_cache_t *cache)
{
    static const char bytes_of_image[] = "some bytes";
    image_cache_reader_t *reader = NULL;
    image_cache_writer_t *writer = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_list_t *list = NULL;
    text_source_t source = {"teed bytes", 0, 4, 0};
    uint64_t number = 0, bytes = 0;
    bool close_on_exec = false;
    char buffer[16];
    size_t length = 1;

    cache_image(cache, "cached", bytes_of_image);
    OK(image_cache_begin_write(cache, "written", &writer, &check_error));
    OK(image_cache_writer_expect_digest(writer, "md5", "d41d8cd98f00b204e9800998ecf8427e", &check_error));
    OK(image_cache_write_chunk(writer, bytes_of_image, sizeof bytes_of_image, &check_error));
    OK(image_cache_open_for_read(cache, "cached", &reader, &check_error));
    /* It does not cache: the image has a writer. */
    OK(image_cache_tee_open(cache, "written", read_text, &source, &tee, &check_error));
    OK(image_cache_list_cached(cache, &list, &check_error));
    CHECK(count_new_descriptors(&close_on_exec) > 0 && close_on_exec);
    CHECK((fcntl(image_cache_reader_fd(reader), F_GETFL) & O_ACCMODE) == O_RDONLY);

    while (length > 0)
        OK(image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
    CHECK(!image_cache_tee_is_caching(tee));
    STATUS(IMAGE_CACHE_ERROR_DIGEST_MISMATCH, image_cache_commit(writer, &check_error));
    STATUS(IMAGE_CACHE_ERROR_NOT_FOUND, image_cache_get_image_size(cache, "absent", &number, &check_error));
    OK(image_cache_begin_write(cache, "aborted", &writer, &check_error));
    image_cache_abort(writer, "tested");
    CHECK(remove(in_directory("cache/cached")) == 0); /* as another program would */
    OK(image_cache_prune(cache, &number, &bytes, &check_error));
    OK(image_cache_clean(cache, 0, &number, &check_error));
    image_cache_list_free(list);
    image_cache_tee_close(tee);
    image_cache_reader_close(reader);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    /* Standard output and error are a file during the library's calls. It must stay empty. */
    fflush(NULL);
    int out = dup(STDOUT_FILENO), error = dup(STDERR_FILENO);
    int silence = open(in_directory("output"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    CHECK(out >= 0 && error >= 0 && silence >= 0);
    CHECK((check_output = fdopen(error, "w")) != NULL);
    save_host_state();
    CHECK(dup2(silence, STDOUT_FILENO) >= 0);

    for (int round = 0; round < 3; round++) {
        image_cache_t *cache = open_with_log(round == 1 ? NULL : log_message);
        int messages = logged.messages;
        CHECK(dup2(silence, STDERR_FILENO) >= 0);
        work_and_fail(cache);
        hash_on_threads(cache);
        CHECK(dup2(error, STDERR_FILENO) >= 0);
        CHECK((logged.messages > messages) == (round != 1) && logged.invalid == 0);
        image_cache_close(cache);

        bool close_on_exec = false;
        CHECK(count_new_descriptors(&close_on_exec) == 0);
        CHECK(count_threads() == before.threads);
        host_state_is_unchanged();
    }
    fflush(NULL);
    CHECK(dup2(out, STDOUT_FILENO) >= 0);
    struct stat printed;
    CHECK(fstat(silence, &printed) == 0 && printed.st_size == 0);
    return 0;
}
