/*
 * Many processes on one directory. Any of them may be the first to open it. Each image has one writer. No hit is lost.
 * They share the queue. Concurrent prunes evict no more than one would. Killed processes leave no inconsistent state.
 */
#include <image_cache.h>

#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { PROCESSES = 4, ROUNDS = 30, IMAGES = 40, LENGTH = 100000 };

/* Children wait until the parent closes its end. They are forked before the parent opens the cache: with the SQLite
 * driver, a child may not open a cache that was open at the fork. */
static int start[2];
static pid_t children[PROCESSES];

static void wait_for_start(void)
{
    char byte;
    close(start[1]);
    CHECK(read(start[0], &byte, 1) == 0);
    close(start[0]);
}

static void fork_children(int (*body)(int))
{
    CHECK(pipe2(start, O_CLOEXEC) == 0);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            wait_for_start();
            _exit(body(i));
        }
    }
}

/* Starts all children at once. Returns the sum of their exit codes. */
static int run_children(void)
{
    int sum = 0;
    close(start[0]);
    close(start[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 200);
        sum += WEXITSTATUS(status);
    }
    return sum;
}

/* Children return at least 2. A failed check exits with 1, so the sum would be too small. */
static void name_image(char id[32], const char *kind, int number) { snprintf(id, 32, "%s-%02d", kind, number); }

static int open_and_cache_one(int me)
{
    image_cache_t *cache = open_cache("new");
    char id[32];
    name_image(id, "first", me);
    cache_image(cache, id, id);
    check_image(cache, id, id);
    image_cache_close(cache);
    return 2;
}

static void any_process_may_be_the_first_to_open(void)
{
    fork_children(open_and_cache_one);
    CHECK(run_children() == 2 * PROCESSES);
    image_cache_t *cache = open_cache("new");
    uint64_t bytes = 0;
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == PROCESSES * strlen("first-00"));
    image_cache_close(cache);
}

/* Each process writes its own letter, so a mixture would show. Returns 2 for each image that it cached. */
static int race_for_images(int me)
{
    image_cache_t *cache = open_cache("races");
    static char bytes[LENGTH];
    int cached = 0;
    memset(bytes, 'A' + me, sizeof bytes);
    for (int round = 0; round < ROUNDS; round++) {
        image_cache_writer_t *writer = NULL;
        char id[32];
        name_image(id, "raced", round);
        image_cache_status_t status = image_cache_begin_write(cache, id, &writer, &check_error);
        if (status != IMAGE_CACHE_OK) {
            CHECK(status == IMAGE_CACHE_ERROR_BEING_CACHED || status == IMAGE_CACHE_ERROR_ALREADY_CACHED);
            continue;
        }
        for (size_t at = 0; at < LENGTH; at += LENGTH / 10)
            OK(image_cache_write_chunk(writer, bytes + at, LENGTH / 10, &check_error));
        OK(image_cache_commit(writer, &check_error));
        cached += 2;
    }
    image_cache_close(cache);
    return cached;
}

static void every_image_has_one_writer(void)
{
    fork_children(race_for_images);
    CHECK(run_children() == 2 * ROUNDS);
    image_cache_t *cache = open_cache("races");
    static char bytes[LENGTH];
    for (int round = 0; round < ROUNDS; round++) {
        image_cache_reader_t *reader = NULL;
        char id[32];
        size_t length = 0;
        name_image(id, "raced", round);
        OK(image_cache_open_for_read(cache, id, &reader, &check_error));
        OK(image_cache_read_at(reader, 0, bytes, sizeof bytes, &length, &check_error));
        CHECK(length == LENGTH && image_cache_reader_size(reader) == LENGTH);
        for (size_t i = 1; i < LENGTH; i++)
            CHECK(bytes[i] == bytes[0]);
        image_cache_reader_close(reader);
    }
    uint64_t total = 0;
    OK(image_cache_get_cache_size(cache, &total, &check_error));
    CHECK(total == (uint64_t)ROUNDS * LENGTH);
    image_cache_close(cache);
}

static int read_the_popular_one(int me)
{
    image_cache_t *cache = open_cache("hits");
    for (int round = 0; round < ROUNDS; round++)
        check_image(cache, "popular", "read by all");
    image_cache_close(cache);
    return 2 + 0 * me;
}

static void no_hit_is_lost(void)
{
    fork_children(read_the_popular_one);
    image_cache_t *cache = open_cache("hits");
    cache_image(cache, "popular", "read by all");
    CHECK(run_children() == 2 * PROCESSES);
    CHECK(hits_of(cache, "popular") == PROCESSES * ROUNDS);
    image_cache_close(cache);
}

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *writer)
{
    (void)user_data;
    return image_cache_write_chunk(writer, id, strlen(id), NULL);
}

static int prefetch(int me)
{
    image_cache_t *cache = open_cache("queue");
    uint64_t fetched = 0, failed = 0;
    OK(image_cache_prefetch(cache, fetch, NULL, &fetched, &failed, &check_error));
    CHECK(failed == 0);
    image_cache_close(cache);
    return 2 + (int)fetched + 0 * me;
}

static void the_queue_is_shared(void)
{
    fork_children(prefetch);
    image_cache_t *cache = open_cache("queue");
    char id[32];
    bool queued = false;
    for (int i = 0; i < IMAGES; i++) {
        name_image(id, "queued", i);
        OK(image_cache_queue_image(cache, id, &queued, &check_error));
    }
    CHECK(run_children() == 2 * PROCESSES + IMAGES);
    for (int i = 0; i < IMAGES; i++) {
        name_image(id, "queued", i);
        check_image(cache, id, id);
        OK(image_cache_is_queued(cache, id, &queued, &check_error));
        CHECK(!queued);
    }
    image_cache_close(cache);
}

static image_cache_t *open_small(void)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    OK(image_cache_options_set_max_size(options, 10, &check_error));
    OK(image_cache_open(in_directory("small"), options, &cache, &check_error));
    image_cache_options_free(options);
    return cache;
}

static int prune(int me)
{
    image_cache_t *cache = open_small();
    uint64_t images = 0, bytes = 0;
    OK(image_cache_prune(cache, &images, &bytes, &check_error));
    image_cache_close(cache);
    return 2 + (int)images + 0 * me;
}

static void concurrent_prunes_evict_no_more_than_the_excess(void)
{
    fork_children(prune);
    image_cache_t *cache = open_small();
    char id[32];
    for (int i = 0; i < IMAGES; i++) {
        name_image(id, "small", i);
        cache_image(cache, id, "x");
    }
    CHECK(run_children() == 2 * PROCESSES + IMAGES - 10);
    CHECK(!is_cached(cache, "small-29") && is_cached(cache, "small-30"));
    image_cache_close(cache);
}

static char program[PATH_MAX];

/* Caches and deletes until it is killed. Runs in a program of its own, on the same directory. */
static void work_until_killed(const char *directory, const char *driver)
{
    snprintf(check_directory, sizeof check_directory, "%s", directory);
    check_driver = strcmp(driver, "xattr") == 0 ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE;
    image_cache_t *cache = open_cache("killed");
    for (unsigned round = 0;; round++) {
        image_cache_writer_t *writer = NULL;
        char id[32];
        name_image(id, "killed", (int)(round % 5));
        if (image_cache_begin_write(cache, id, &writer, NULL) == IMAGE_CACHE_OK) {
            image_cache_write_chunk(writer, "whole", 5, NULL);
            image_cache_commit(writer, NULL);
        } else {
            image_cache_delete_cached_image(cache, id, NULL);
        }
    }
}

/* After a kill at any time, all images are whole, no image is blocked, and the cache size is that of the files. */
static void killed_processes_leave_a_consistent_cache(void)
{
    image_cache_t *cache = open_cache("killed");
    for (int kills = 0; kills < 100; kills++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            execl(program, program, "--work", check_directory,
                  check_driver == IMAGE_CACHE_DRIVER_XATTR ? "xattr" : "sqlite", (char *)NULL);
            _exit(1);
        }
        usleep((useconds_t)(10000 + kills * 97)); /* the time of the kill is arbitrary */
        kill(child, SIGKILL);
        CHECK(waitpid(child, NULL, 0) == child);

        uint64_t size = 0, files = 0;
        for (int i = 0; i < 5; i++) {
            char id[32];
            name_image(id, "killed", i);
            if (is_cached(cache, id)) {
                check_image(cache, id, "whole");
                files += 5;
            }
        }
        OK(image_cache_get_cache_size(cache, &size, &check_error));
        CHECK(size == files);
        for (int i = 0; i < 5; i++) {
            char id[32];
            name_image(id, "killed", i);
            OK(image_cache_delete_cached_image(cache, id, &check_error));
            cache_image(cache, id, "whole"); /* at once: a dead writer does not block its image */
        }
    }
    image_cache_close(cache);
}

/* ---- one verification by all ---- */

static int arrived[2], go_on[2];
static bool has_arrived;

/* Waits in its first call until all processes are in theirs: they are in one pass, each with an image of its own. */
static int32_t wait_for_the_others(void *user_data, const char *image_id, uint64_t done, uint64_t total)
{
    (void)user_data, (void)image_id, (void)done, (void)total;
    char byte = 0;
    if (!has_arrived) {
        has_arrived = true;
        CHECK(write(arrived[1], &byte, 1) == 1);
        CHECK(read(go_on[0], &byte, 1) == 0);
    }
    return 0;
}

static int verify_all(int me)
{
    close(go_on[1]);
    image_cache_t *cache = open_cache("verified");
    image_cache_verify_options_t verify_options = {.progress = wait_for_the_others};
    image_cache_verify_result_t result;
    OK(image_cache_verify(cache, NULL, &verify_options, sizeof verify_options, &result, sizeof result, &check_error));
    CHECK(result.verified + result.skipped == IMAGES && result.failed == 0 && result.stopped == 0);
    image_cache_close(cache);
    return 2 * (int)result.verified + 0 * me;
}

static void each_image_is_verified_by_one_process(void)
{
    image_cache_t *cache = open_cache("verified");
    for (int i = 0; i < IMAGES; i++) {
        char id[32];
        name_image(id, "verified", i);
        cache_image(cache, id, id);
    }
    image_cache_close(cache);
    CHECK(pipe2(arrived, O_CLOEXEC) == 0 && pipe2(go_on, O_CLOEXEC) == 0);
    fork_children(verify_all);
    close(start[0]);
    close(start[1]);
    for (int i = 0; i < PROCESSES; i++) {
        char byte;
        CHECK(read(arrived[0], &byte, 1) == 1);
    }
    close(go_on[1]);
    int sum = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK(WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK(sum == 2 * IMAGES);
}

int main(int argc, char **argv)
{
    CHECK(realpath(argv[0], program) != NULL);
    if (argc == 4 && strcmp(argv[1], "--work") == 0)
        work_until_killed(argv[2], argv[3]);
    check_start(argc, argv);
    any_process_may_be_the_first_to_open();
    every_image_has_one_writer();
    no_hit_is_lost();
    the_queue_is_shared();
    concurrent_prunes_evict_no_more_than_the_excess();
    each_image_is_verified_by_one_process();
    killed_processes_leave_a_consistent_cache();
    return 0;
}
