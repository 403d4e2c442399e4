/*
 * fork() into a new PID namespace: a process with the id 1 gets a child with the id 1. Inherited handles still return
 * FORKED in the child and can be closed, and the parent's handles keep working.
 */
#include <image_cache.h>

#include "check.h"

#include <sched.h>
#include <sys/wait.h>

#define FORKED(call) STATUS(IMAGE_CACHE_ERROR_FORKED, call)

static image_cache_t *cache;
static image_cache_writer_t *writer;
static image_cache_reader_t *reader;

/* Puts later children into a new PID namespace, so the next one gets the id 1. */
static bool enter_pid_namespace(void)
{
    return unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
}

static pid_t fork_child(void)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    return child;
}

static int wait_for(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int use_all_in_child(void)
{
    char buffer[16];
    size_t length = 0;
    uint64_t removed = 0;
    bool cached = false;
    image_cache_t *own = NULL;
    CHECK(getpid() == 1);
    FORKED(image_cache_is_cached(cache, "cached", &cached, &check_error));
    FORKED(image_cache_clean(cache, 0, &removed, &check_error));
    FORKED(image_cache_read(reader, buffer, sizeof buffer, &length, &check_error));
    FORKED(image_cache_write_chunk(writer, "child", 5, &check_error));
    if (check_driver == IMAGE_CACHE_DRIVER_SQLITE) {
        image_cache_options_t *options = new_options();
        FORKED(image_cache_open(in_directory("cache"), options, &own, &check_error));
        image_cache_options_free(options);
    }
    image_cache_reader_close(reader);
    FORKED(image_cache_commit(writer, &check_error));
    image_cache_close(cache);
    return 0;
}

/* Runs in the process with the id 1, which opens the handles. */
static int first_of_a_namespace(void)
{
    CHECK(getpid() == 1);
    cache = open_cache("cache");
    cache_image(cache, "cached", "cached bytes");
    OK(image_cache_begin_write(cache, "written", &writer, &check_error));
    OK(image_cache_write_chunk(writer, "first half, ", 12, &check_error));
    OK(image_cache_open_for_read(cache, "cached", &reader, &check_error));
    if (!enter_pid_namespace())
        return CHECK_SKIPPED;
    pid_t child = fork_child();
    if (child == 0)
        _exit(use_all_in_child());
    CHECK(wait_for(child) == 0);

    OK(image_cache_write_chunk(writer, "second half", 11, &check_error));
    OK(image_cache_commit(writer, &check_error));
    check_image(cache, "written", "first half, second half");
    check_rest(reader, "cached bytes");
    image_cache_reader_close(reader);
    CHECK(hits_of(cache, "cached") == 1);
    image_cache_close(cache);
    return 0;
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    if (!enter_pid_namespace())
        check_skip("creating a PID namespace is not permitted here");
    pid_t first = fork_child();
    if (first == 0)
        _exit(first_of_a_namespace());
    int status = wait_for(first);
    if (status == CHECK_SKIPPED)
        check_skip("creating a nested PID namespace is not permitted here");
    return status;
}
