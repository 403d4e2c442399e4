/*
 * fork(): in the child every inherited handle returns FORKED and can be closed, and the parent's handles keep working.
 * After exec the child may open the directory again. A process that dies with a writer blocks no other process. If it
 * had a child, the image is free once the child has ended.
 */
#include <image_cache.h>

#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

static const char *program;
static image_cache_t *cache;
static image_cache_options_t *options;
static image_cache_writer_t *writer;
static image_cache_writer_t *hashed; /* so long that a thread computes its digest; the child has no such thread */
static const char zeros[4 << 20];
static image_cache_reader_t *reader;
static image_cache_tee_t *tee;
static image_cache_stream_t *stream, *unread; /* a participant of a fetch, and one that has not begun */
static image_cache_list_t *list;
static text_source_t source = {"teed bytes", 0, 4, 0}, range = {"streamed bytes", 0, 5, 0};

#define FORKED(call) STATUS(IMAGE_CACHE_ERROR_FORKED, call)

static image_cache_status_t fetch_nothing(void *user_data, const char *id, image_cache_writer_t *lent)
{
    (void)user_data, (void)id, (void)lent;
    return IMAGE_CACHE_OK;
}

/* Runs `body` in a child, which must return from it. */
static void in_child(void (*body)(void))
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void set_up(void)
{
    cache = open_cache("cache");
    options = new_options();
    bool queued = false;
    cache_image(cache, "cached", "cached bytes");
    OK(image_cache_queue_image(cache, "queued", &queued, &check_error));
    OK(image_cache_begin_write(cache, "written", &writer, &check_error));
    OK(image_cache_write_chunk(writer, "first half, ", 12, &check_error));
    OK(image_cache_begin_write(cache, "hashed", &hashed, &check_error));
    OK(image_cache_writer_expect_digest(hashed, "md5", "96995b58d4cbf6aaa9041b4f00c7f6ae", &check_error));
    OK(image_cache_write_chunk(hashed, zeros, sizeof zeros, &check_error));
    OK(image_cache_write_chunk(hashed, zeros, sizeof zeros / 2, &check_error));
    OK(image_cache_open_for_read(cache, "cached", &reader, &check_error));
    OK(image_cache_tee_open(cache, "teed", read_text, &source, &tee, &check_error));
    char first[5];
    size_t length = 0;
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &range, &stream, &check_error));
    OK(image_cache_stream_read(stream, first, sizeof first, &length, &check_error));
    CHECK(length == 5 && memcmp(first, "strea", 5) == 0);
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &range, &unread, &check_error));
    OK(image_cache_list_cached(cache, &list, &check_error));
}

static void use_cache_in_child(void)
{
    bool value = true;
    uint64_t one = 7, two = 7;
    image_cache_list_t *new_list = (void *)&cache;
    image_cache_writer_t *new_writer = (void *)&cache;
    image_cache_reader_t *new_reader = (void *)&cache;
    image_cache_stream_t *new_stream = (void *)&cache;
    FORKED(image_cache_is_cached(cache, "cached", &value, &check_error));
    CHECK(!value);
    FORKED(image_cache_is_being_cached(cache, "cached", &value, &check_error));
    FORKED(image_cache_is_queued(cache, "cached", &value, &check_error));
    FORKED(image_cache_is_cacheable(cache, "cached", &value, &check_error));
    FORKED(image_cache_get_cache_size(cache, &one, &check_error));
    CHECK(one == 0);
    FORKED(image_cache_get_image_size(cache, "cached", &one, &check_error));
    FORKED(image_cache_get_hit_count(cache, "cached", &one, &check_error));
    FORKED(image_cache_list_cached(cache, &new_list, &check_error));
    CHECK(new_list == NULL);
    FORKED(image_cache_list_queued(cache, &new_list, &check_error));
    FORKED(image_cache_list_incomplete(cache, &new_list, &check_error));
    FORKED(image_cache_list_invalid(cache, &new_list, &check_error));
    FORKED(image_cache_get_image(cache, "cached", &new_list, &check_error));
    CHECK(new_list == NULL);
    FORKED(image_cache_begin_write(cache, "new", &new_writer, &check_error));
    CHECK(new_writer == NULL);
    FORKED(image_cache_open_for_read(cache, "cached", &new_reader, &check_error));
    CHECK(new_reader == NULL);
    FORKED(image_cache_stream_open(cache, "new", read_text_at, &range, &new_stream, &check_error));
    CHECK(new_stream == NULL);
    FORKED(image_cache_wait_cached(cache, "cached", 0, &value, &check_error));
    CHECK(!value);
    FORKED(image_cache_queue_image(cache, "new", &value, &check_error));
    FORKED(image_cache_delete_queued_image(cache, "queued", &check_error));
    FORKED(image_cache_delete_all_queued_images(cache, &one, &check_error));
    FORKED(image_cache_prefetch(cache, fetch_nothing, NULL, &one, &two, &check_error));
    CHECK(one == 0 && two == 0);
    FORKED(image_cache_delete_cached_image(cache, "cached", &check_error));
    value = true;
    FORKED(image_cache_delete_unused_image(cache, "cached", &value, &check_error));
    CHECK(!value);
    FORKED(image_cache_delete_all_cached_images(cache, &one, &check_error));
    FORKED(image_cache_prune(cache, &one, &two, &check_error));
    FORKED(image_cache_prune_to(cache, 0, &one, &two, &check_error));
    FORKED(image_cache_make_room(cache, 0, &one, &two, &check_error));
    FORKED(image_cache_set_max_size(cache, 1, &check_error));
    image_cache_usage_t usage;
    FORKED(image_cache_get_usage(cache, &usage, sizeof usage, &check_error));
    CHECK(usage.limit == 0);
    int32_t how = 7;
    FORKED(image_cache_export(cache, "cached", STDERR_FILENO, 0, NULL, 0, &how, &check_error));
    FORKED(image_cache_import(cache, "new", STDIN_FILENO, 0, NULL, 0, &how, &check_error));
    CHECK(how == 0);
    image_cache_verify_result_t verified = {.verified = 7};
    FORKED(image_cache_verify(cache, NULL, NULL, 0, &verified, sizeof verified, &check_error));
    CHECK(verified.verified == 0);
    FORKED(image_cache_clean(cache, 0, &one, &check_error));
    image_cache_statistics_t statistics;
    FORKED(image_cache_get_statistics(cache, &statistics, sizeof statistics, &check_error));
    CHECK(statistics.images == 0 && statistics.limit == 0);
    FORKED(image_cache_pin(cache, "cached", "holder", 1, &check_error));
    FORKED(image_cache_unpin(cache, "cached", "holder", &check_error));
}

static void use_readers_and_writers_in_child(void)
{
    char buffer[16];
    size_t length = 7;
    FORKED(image_cache_writer_expect_size(writer, 1, &check_error));
    FORKED(image_cache_writer_expect_digest(writer, "md5", "d41d8cd98f00b204e9800998ecf8427e", &check_error));
    FORKED(image_cache_write_chunk(writer, "child", 5, &check_error));
    FORKED(image_cache_write_hole(writer, 5, &check_error));
    FORKED(image_cache_read(reader, buffer, sizeof buffer, &length, &check_error));
    CHECK(length == 0);
    FORKED(image_cache_read_at(reader, 0, buffer, sizeof buffer, &length, &check_error));
    FORKED(image_cache_tee_expect_size(tee, 1, &check_error));
    FORKED(image_cache_tee_refuse_empty(tee, &check_error));
    FORKED(image_cache_tee_expect_digest(tee, "md5", "d41d8cd98f00b204e9800998ecf8427e", &check_error));
    FORKED(image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
    CHECK(!image_cache_tee_is_caching(tee) && source.calls == 0);
    CHECK(image_cache_reader_fd(reader) == -1);
    CHECK(image_cache_reader_path(reader) == NULL);
    CHECK(image_cache_reader_size(reader) == strlen("cached bytes")); /* a number in memory, as is the next */
    CHECK(image_cache_get_driver(cache) == check_driver);

    /* Options and lists are memory only, and the child has its own copy. */
    const image_cache_entry_t *entry = NULL;
    CHECK(image_cache_list_next(list, &entry) && strcmp(entry->image_id, "cached") == 0);
    OK(image_cache_options_set_max_size(options, 1 << 20, &check_error));
}

static void use_streams_in_child(void)
{
    image_cache_stream_t *const streams[] = {stream, unread};
    char buffer[16];
    size_t length = 7;
    for (size_t i = 0; i < 2; i++) {
        FORKED(image_cache_stream_expect_size(streams[i], 14, &check_error));
        FORKED(image_cache_stream_expect_digest(streams[i], "md5", "d41d8cd98f00b204e9800998ecf8427e", &check_error));
        FORKED(image_cache_stream_set_timeout(streams[i], 1, &check_error));
        FORKED(image_cache_stream_set_source_timeout(streams[i], 1, &check_error));
        FORKED(image_cache_stream_read(streams[i], buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 0);
        FORKED(image_cache_stream_read_at(streams[i], 0, buffer, sizeof buffer, &length, &check_error));
        CHECK(image_cache_stream_role(streams[i]) == IMAGE_CACHE_STREAM_ALONE);
        CHECK(image_cache_stream_available(streams[i]) == 0);
    }
    CHECK(range.calls == 1);
}

static void close_all_in_child(void)
{
    use_cache_in_child();
    use_readers_and_writers_in_child();
    use_streams_in_child();
    image_cache_reader_close(reader);
    image_cache_tee_close(tee);
    image_cache_stream_close(stream);
    image_cache_stream_close(unread);
    image_cache_list_free(list);
    image_cache_options_free(options);
    image_cache_close(cache);
    FORKED(image_cache_write_chunk(hashed, zeros, sizeof zeros / 2, &check_error));
    FORKED(image_cache_commit(hashed, &check_error));
    FORKED(image_cache_commit(writer, &check_error)); /* also ends the handle */
}

/* The child inherits SQLite's record of its locks, not the locks. So it cannot open the parent's cache again. */
static void open_again_in_child(void)
{
    image_cache_t *own = (void *)&cache;
    bool queued = false;
    image_cache_status_t expected =
        check_driver == IMAGE_CACHE_DRIVER_SQLITE ? IMAGE_CACHE_ERROR_FORKED : IMAGE_CACHE_OK;
    STATUS(expected, image_cache_open(in_directory("cache"), options, &own, &check_error));
    CHECK((own != NULL) == (expected == IMAGE_CACHE_OK));
    image_cache_close(own);
    own = open_cache("another"); /* not open in the parent */
    OK(image_cache_queue_image(own, "queued", &queued, &check_error));
    image_cache_close(own);
}

static void abort_in_child(void)
{
    image_cache_close(cache);
    image_cache_abort(writer, "aborted in the child");
    image_cache_abort(hashed, NULL);
    image_cache_tee_close(tee);
    image_cache_stream_close(unread);
    image_cache_stream_close(stream);
    image_cache_reader_close(reader);
}

/* Executes this program again, with the directory and a task. */
static void execute(const char *task)
{
    const char *driver = check_driver == IMAGE_CACHE_DRIVER_XATTR ? "xattr" : "sqlite";
    execl(program, program, driver, check_directory, task, (char *)NULL);
    _exit(127);
}

static void execute_leaver(void) { execute("leave"); }
static void execute_user(void) { execute("use"); }

static int other_program(const char *task)
{
    image_cache_t *own = open_cache("cache");
    image_cache_writer_t *second = NULL;
    if (strcmp(task, "die") == 0) {
        OK(image_cache_begin_write(own, "doomed", &second, &check_error));
        OK(image_cache_write_chunk(second, "half", 4, &check_error));
        kill(getpid(), SIGKILL);
    }
    if (strcmp(task, "leave") == 0) { /* it ends with a stream open, after one piece */
        image_cache_stream_t *left = NULL;
        char piece[5];
        size_t length = 0;
        OK(image_cache_stream_open(own, "left", read_text_at, &range, &left, &check_error));
        OK(image_cache_stream_read(left, piece, sizeof piece, &length, &check_error));
        CHECK(length == 5 && image_cache_stream_available(left) == 5);
        _exit(0);
    }
    /* The child's close did not release the parent's lock, and the parent still takes part in its fetch. */
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(own, "streamed", &second, &check_error));
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(own, "written", &second, &check_error));
    check_image(own, "cached", "cached bytes");
    cache_image(own, "child's", "child's bytes");
    image_cache_close(own);
    return 0;
}

static void parents_handles_still_work(void)
{
    char buffer[64];
    size_t length = 1, total = 0;
    CHECK(exists(in_directory("cache/incomplete/written")) && !exists(in_directory("cache/invalid/written")));
    OK(image_cache_write_chunk(writer, "second half", 11, &check_error));
    OK(image_cache_commit(writer, &check_error));
    check_image(cache, "written", "first half, second half");
    OK(image_cache_write_chunk(hashed, zeros, sizeof zeros / 2, &check_error));
    OK(image_cache_commit(hashed, &check_error));

    check_rest(reader, "cached bytes");
    image_cache_reader_close(reader);
    CHECK(hits_of(cache, "cached") == 2); /* this reader's and the other program's, not the inherited reader's */

    while (length > 0) {
        OK(image_cache_tee_read(tee, buffer + total, sizeof buffer - total, &length, &check_error));
        total += length;
    }
    CHECK(total == 10 && image_cache_tee_is_caching(tee));
    image_cache_tee_close(tee);
    check_image(cache, "teed", "teed bytes");

    image_cache_stream_t *const streams[] = {stream, unread};
    for (size_t i = 0; i < 2; i++) {
        for (length = 1, total = i == 0 ? 5 : 0; length > 0; total += length)
            OK(image_cache_stream_read(streams[i], buffer + total, sizeof buffer - total, &length, &check_error));
        CHECK(total == 14);
        image_cache_stream_close(streams[i]);
    }
    CHECK(range.calls == 4); /* three pieces and the end: `unread` read the file */
    check_image(cache, "streamed", "streamed bytes");

    const image_cache_entry_t *entry = NULL;
    CHECK(image_cache_list_next(list, &entry) && strcmp(entry->image_id, "cached") == 0);
    image_cache_list_free(list);
    check_image(cache, "child's", "child's bytes");
    bool queued = false;
    OK(image_cache_is_queued(cache, "queued", &queued, &check_error));
    CHECK(queued);
}

static void a_dead_writer_does_not_block_its_image(void)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        execute("die");
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(exists(in_directory("cache/incomplete/doomed")));
    cache_image(cache, "doomed", "whole");
    check_image(cache, "doomed", "whole");
}

/* The piece that a process fetched before its end is not fetched again. */
static void a_stream_that_a_process_left_is_resumed(void)
{
    text_source_t rest = {"streamed bytes", 0, 5, 0};
    image_cache_stream_t *resumed = NULL;
    char buffer[64];
    size_t length = 1, total = 0;
    in_child(execute_leaver);
    CHECK(exists(in_directory("cache/incomplete/left")));
    OK(image_cache_stream_open(cache, "left", read_text_at, &rest, &resumed, &check_error));
    for (; length > 0; total += length)
        OK(image_cache_stream_read(resumed, buffer + total, sizeof buffer - total, &length, &check_error));
    CHECK(total == 14 && rest.calls == 3); /* two pieces and the end */
    image_cache_stream_close(resumed);
    check_image(cache, "left", "streamed bytes");
}

/* The child inherits the open file, and with it the writer's lock. The kernel drops the lock when both have ended. */
static void an_image_is_free_when_parent_and_child_have_ended(void)
{
    int ready[2], release[2];
    char byte;
    CHECK(pipe(ready) == 0 && pipe(release) == 0);
    fflush(NULL);
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (parent == 0) {
        image_cache_t *own = open_cache("orphaned");
        image_cache_writer_t *orphan = NULL;
        OK(image_cache_begin_write(own, "orphan", &orphan, &check_error));
        OK(image_cache_write_chunk(orphan, "half", 4, &check_error));
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(release[1]);
            CHECK(write(ready[1], "c", 1) == 1);
            CHECK(read(release[0], &byte, 1) == 0); /* until the test closes its end */
            FORKED(image_cache_commit(orphan, &check_error));
            image_cache_close(own);
            CHECK(write(ready[1], "e", 1) == 1);
            _exit(0);
        }
        pause();
    }
    close(release[0]);
    CHECK(read(ready[0], &byte, 1) == 1 && byte == 'c');
    kill(parent, SIGKILL);
    CHECK(waitpid(parent, NULL, 0) == parent);

    image_cache_t *own = open_cache("orphaned");
    image_cache_writer_t *next = NULL;
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(own, "orphan", &next, &check_error));
    cache_image(own, "other", "other bytes"); /* other images are free */
    close(release[1]);
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1 && byte == 'e');
    CHECK(read(ready[0], &byte, 1) == 0); /* the child has ended and closed its descriptors */
    CHECK(!is_cached(own, "orphan"));     /* the child's commit published nothing */
    image_cache_status_t status;
    do /* the kernel closes a dying process's descriptors one by one */
        status = image_cache_begin_write(own, "orphan", &next, NULL);
    while (status == IMAGE_CACHE_ERROR_BEING_CACHED);
    CHECK(status == IMAGE_CACHE_OK);
    OK(image_cache_write_chunk(next, "whole", 5, &check_error));
    OK(image_cache_commit(next, &check_error));
    check_image(own, "orphan", "whole");
    image_cache_close(own);
    close(ready[0]);
}

/* A child never waits for a lock that another thread held at the fork. */
static bool stop; /* __atomic, because C99 has no atomics */

static void *work(void *number)
{
    char id[32];
    snprintf(id, sizeof id, "own-%d", *(int *)number);
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        cache_image(cache, id, id);
        check_image(cache, id, id);
        OK(image_cache_delete_cached_image(cache, id, &check_error));
    }
    return NULL;
}

static void forks_during_calls_of_other_threads(void)
{
    enum { THREADS = 3, FORKS = 60 };
    pthread_t threads[THREADS];
    int numbers[THREADS];
    uint64_t size = 0;
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            bool cached;
            alarm(60);
            image_cache_status_t status = image_cache_is_cached(cache, "cached", &cached, NULL);
            image_cache_abort(writer, "aborted in the child");
            image_cache_close(cache);
            _exit(status == IMAGE_CACHE_ERROR_FORKED ? 0 : 1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    OK(image_cache_get_cache_size(cache, &size, &check_error));
    CHECK(size == strlen("cached bytes"));
}

/* posix_spawn and vfork share the parent's memory until exec. They do not disturb its handles. */
static void children_that_share_memory_do_not_disturb_the_parent(void)
{
    char *arguments[] = {"true", NULL}, *environment[] = {NULL};
    pid_t spawned;
    int status = 0;
    CHECK(posix_spawn(&spawned, "/bin/true", NULL, NULL, arguments, environment) == 0);
    CHECK(waitpid(spawned, &status, 0) == spawned && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pid_t child = vfork();
    if (child == 0)
        _exit(0);
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(is_cached(cache, "cached"));
    OK(image_cache_write_chunk(writer, "", 0, &check_error));
}

int main(int argc, char **argv)
{
    program = argv[0];
    check_start(argc, argv);
    if (argc > 3) {
        check_remove(check_directory);
        snprintf(check_directory, sizeof check_directory, "%s", argv[2]);
        check_owner = 0; /* the parent removes the directory */
        return other_program(argv[3]);
    }
    an_image_is_free_when_parent_and_child_have_ended();
    set_up();
    children_that_share_memory_do_not_disturb_the_parent();
    forks_during_calls_of_other_threads();
    in_child(close_all_in_child);
    in_child(abort_in_child);
    in_child(open_again_in_child);
    in_child(execute_user);
    parents_handles_still_work();
    a_dead_writer_does_not_block_its_image();
    a_stream_that_a_process_left_is_resumed();
    image_cache_options_free(options);
    image_cache_close(cache);
    return 0;
}
