/*
 * Nothing of the library leaks into its host: descriptors are close-on-exec and all closed in the end, no thread stays, nor
 * gets one of the host's signals, no signal handler, environment, working folder or umask changes, stdout and stderr stay
 * silent. What the library has to say goes to the log callback.
 */
#include <image_cache.h>

#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>

enum { MOST_DESCRIPTORS = 512, MOST_SIGNALS = 65 };

extern char **environ;

static struct {
    bool descriptors[MOST_DESCRIPTORS];
    struct sigaction signals[MOST_SIGNALS];
    sigset_t blocked;
    int threads, variables;
    char folder[PATH_MAX];
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

/* The signals that the kernel holds back from a thread: the one with number 1 is the lowest bit. */
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

/* Valgrind, which loads a library of its own, keeps the masks of other threads to itself, and the kernel's as it needs them. */
static bool kernel_has_our_masks(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded == NULL || strstr(preloaded, "vgpreload") == NULL;
}

/* No signal of the host's may be delivered to a thread of the library's. (The C library keeps the first two real-time signals
 * for itself.) */
static void all_signals_are_blocked(const char *task)
{
    unsigned long long blocked = blocked_signals(task);
    for (int number = 1; number < MOST_SIGNALS; number++)
        if (number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN))
            CHECK((blocked >> (number - 1) & 1) == 1);
}

/* Looks at the threads that hash while there are some; how many there are. */
static int look_at_hashing_threads(void)
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

/* The kernel lists a thread for a moment longer than pthread_join() waits for it. */
static void no_thread_is_left(void)
{
    for (int looks = 0; looks < 100000 && count_threads() != before.threads; looks++)
        sched_yield();
    CHECK(count_threads() == before.threads);
}

/* Each way in which a long image that is hashed can end leaves no thread. */
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
        CHECK(look_at_hashing_threads() == 2 && count_threads() == before.threads + 2);
        if (way == COMMIT) {
            STATUS(IMAGE_CACHE_ERROR_DIGEST_MISMATCH, image_cache_commit(writer, &check_error));
        } else if (way == ABORT) {
            image_cache_abort(writer, "for a reason");
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

static void look_before(void)
{
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++)
        before.descriptors[fd] = fcntl(fd, F_GETFD) != -1;
    for (int number = 1; number < MOST_SIGNALS; number++)
        sigaction(number, NULL, &before.signals[number]);
    sigprocmask(SIG_SETMASK, NULL, &before.blocked);
    before.threads = count_threads();
    before.variables = count_variables();
    before.mask = current_mask();
    CHECK(getcwd(before.folder, sizeof before.folder) != NULL);
}

/* Looks at the descriptors that are there now and were not before. */
static int count_new_descriptors(bool *all_close_on_exec)
{
    int found = 0;
    *all_close_on_exec = true;
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags == -1 || before.descriptors[fd])
            continue;
        found++;
        if ((flags & FD_CLOEXEC) == 0) {
            char link[64], target[PATH_MAX] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            CHECK(readlink(link, target, sizeof target - 1) > 0);
            fprintf(check_output, "descriptor %d is inherited by exec: %s\n", fd, target);
            *all_close_on_exec = false;
        }
    }
    return found;
}

static void nothing_has_changed(void)
{
    char folder[PATH_MAX];
    sigset_t blocked;
    for (int number = 1; number < MOST_SIGNALS; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0)
            CHECK(now.sa_handler == before.signals[number].sa_handler);
    }
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int number = 1; number < MOST_SIGNALS; number++)
        CHECK(sigismember(&blocked, number) == sigismember(&before.blocked, number));
    CHECK(count_variables() == before.variables);
    CHECK(current_mask() == before.mask);
    CHECK(getcwd(folder, sizeof folder) != NULL && strcmp(folder, before.folder) == 0);
}

static struct {
    int messages, odd;
} logged;

static void log_message(void *user_data, int32_t level, const char *message)
{
    logged.messages++;
    if (user_data != &logged || level < IMAGE_CACHE_LOG_ERROR || level > IMAGE_CACHE_LOG_DEBUG || message == NULL
        || message[0] == '\0')
        logged.odd++;
}

static image_cache_t *open_with_log(image_cache_log_fn log)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    OK(image_cache_options_set_log(options, log, &logged, &check_error));
    OK(image_cache_open(in_folder("cache"), options, &cache, &check_error));
    image_cache_options_free(options); /* the cache has its own copy */
    return cache;
}

/* Work that goes well, and work that fails in the ways that a library might be tempted to print about. */
static void work_and_fail(image_cache_t *cache)
{
    static const char all_sorts[] = "all sorts";
    image_cache_reader_t *reader = NULL;
    image_cache_writer_t *writer = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_list_t *list = NULL;
    text_source_t source = {"teed bytes", 0, 4, 0};
    uint64_t number = 0, bytes = 0;
    bool close_on_exec = false;
    char buffer[16];
    size_t length = 1;

    cache_image(cache, "cached", all_sorts);
    OK(image_cache_begin_write(cache, "written", &writer, &check_error));
    OK(image_cache_writer_expect_digest(writer, "md5", "d41d8cd98f00b204e9800998ecf8427e", &check_error));
    OK(image_cache_write_chunk(writer, all_sorts, sizeof all_sorts, &check_error));
    OK(image_cache_open_for_read(cache, "cached", &reader, &check_error));
    OK(image_cache_tee_open(cache, "written", read_text, &source, &tee, &check_error)); /* cannot cache: it is taken */
    OK(image_cache_list_cached(cache, &list, &check_error));
    CHECK(count_new_descriptors(&close_on_exec) > 0 && close_on_exec);
    CHECK((fcntl(image_cache_reader_fd(reader), F_GETFL) & O_ACCMODE) == O_RDONLY);

    while (length > 0)
        OK(image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
    CHECK(!image_cache_tee_is_caching(tee));
    STATUS(IMAGE_CACHE_ERROR_DIGEST_MISMATCH, image_cache_commit(writer, &check_error));
    STATUS(IMAGE_CACHE_ERROR_NOT_FOUND, image_cache_get_image_size(cache, "absent", &number, &check_error));
    OK(image_cache_begin_write(cache, "aborted", &writer, &check_error));
    image_cache_abort(writer, "for a reason");
    CHECK(remove(in_folder("cache/cached")) == 0); /* behind the cache's back */
    OK(image_cache_prune(cache, &number, &bytes, &check_error));
    OK(image_cache_clean(cache, 0, &number, &check_error));
    image_cache_list_free(list);
    image_cache_tee_close(tee);
    image_cache_reader_close(reader);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    /* Whatever the library would print goes to a file that must stay empty. */
    fflush(NULL);
    int out = dup(STDOUT_FILENO), error = dup(STDERR_FILENO);
    int silence = open(in_folder("output"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    CHECK(out >= 0 && error >= 0 && silence >= 0);
    CHECK((check_output = fdopen(error, "w")) != NULL);
    look_before();
    CHECK(dup2(silence, STDOUT_FILENO) >= 0);

    for (int round = 0; round < 3; round++) {
        image_cache_t *cache = open_with_log(round == 1 ? NULL : log_message);
        int messages = logged.messages;
        CHECK(dup2(silence, STDERR_FILENO) >= 0);
        work_and_fail(cache);
        hash_on_threads(cache);
        CHECK(dup2(error, STDERR_FILENO) >= 0);
        CHECK((logged.messages > messages) == (round != 1) && logged.odd == 0);
        image_cache_close(cache);

        bool close_on_exec = false;
        CHECK(count_new_descriptors(&close_on_exec) == 0);
        CHECK(count_threads() == before.threads);
        nothing_has_changed();
    }
    fflush(NULL);
    CHECK(dup2(out, STDOUT_FILENO) >= 0);
    struct stat printed;
    CHECK(fstat(silence, &printed) == 0 && printed.st_size == 0);
    return 0;
}
