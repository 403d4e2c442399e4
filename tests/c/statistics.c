/*
 * Statistics: processes that use a cache at the same time add up exactly. A process that is killed loses only what it
 * had not written. Structs of an older and of a newer header are filled as far as they go.
 */
#include <image_cache.h>

#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { PROCESSES = 4, ROUNDS = 25 };

static image_cache_statistics_t statistics_of(image_cache_t *cache)
{
    image_cache_statistics_t statistics;
    memset(&statistics, 7, sizeof statistics);
    OK(image_cache_get_statistics(cache, &statistics, sizeof statistics, &check_error));
    return statistics;
}

/* Reads an image, misses one, caches one, aborts one, and lets prune evict one. */
static void use(image_cache_t *cache, int process, int round)
{
    char id[32];
    image_cache_reader_t *reader = NULL;
    image_cache_writer_t *writer = NULL;
    check_image(cache, "shared", "bytes");
    STATUS(IMAGE_CACHE_ERROR_NOT_FOUND, image_cache_open_for_read(cache, "absent", &reader, &check_error));
    snprintf(id, sizeof id, "%d-%d", process, round);
    cache_image(cache, id, "twelve bytes");
    snprintf(id, sizeof id, "aborted-%d", process);
    OK(image_cache_begin_write(cache, id, &writer, &check_error));
    image_cache_abort(writer, "tested");
    image_cache_statistics_t now = statistics_of(cache);
    CHECK(now.hits > (uint64_t)round && now.commits > (uint64_t)round);
}

static void processes_add_up_exactly(void)
{
    pid_t children[PROCESSES];
    image_cache_t *cache = open_cache("cache");
    cache_image(cache, "shared", "bytes");
    image_cache_close(cache);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] > 0)
            continue;
        cache = open_cache("cache");
        for (int round = 0; round < ROUNDS; round++)
            use(cache, i, round);
        image_cache_close(cache);
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    cache = open_cache("cache");
    image_cache_statistics_t now = statistics_of(cache);
    CHECK(now.images == PROCESSES * ROUNDS + 1 && now.bytes == PROCESSES * ROUNDS * 12 + 5);
    CHECK(now.allocated >= now.images && now.free > 0 && now.limit == UINT64_C(10) << 30);
    CHECK(now.hits == PROCESSES * ROUNDS && now.bytes_served == PROCESSES * ROUNDS * 5);
    CHECK(now.misses == PROCESSES * ROUNDS && now.commits == PROCESSES * ROUNDS + 1);
    CHECK(now.aborted_by_call == PROCESSES * ROUNDS && now.closed_early == 0 && now.evictions == 0);

    uint64_t images = 0, bytes = 0;
    OK(image_cache_prune_to(cache, 0, &images, &bytes, &check_error));
    image_cache_close(cache);
    cache = open_cache("cache");
    now = statistics_of(cache);
    CHECK(now.images == 0 && now.evictions == images && now.evicted_bytes == bytes && now.next_victim_idle == 0);
    image_cache_close(cache);
}

/* What was counted before the statistics were read is in the file. What came later may be lost, and not more. */
static void a_killed_process_loses_what_it_had_not_written(void)
{
    int done[2];
    char byte;
    image_cache_t *cache = open_cache("cache");
    image_cache_statistics_t before = statistics_of(cache);
    image_cache_close(cache);
    CHECK(pipe(done) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        cache = open_cache("cache");
        cache_image(cache, "first", "bytes");
        check_image(cache, "first", "bytes");
        statistics_of(cache);
        check_image(cache, "first", "bytes");
        CHECK(write(done[1], "d", 1) == 1);
        pause();
    }
    close(done[1]);
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    cache = open_cache("cache");
    image_cache_statistics_t after = statistics_of(cache);
    CHECK(after.commits == before.commits + 1 && after.aborted_by_call == before.aborted_by_call);
    CHECK(after.hits >= before.hits + 1 && after.hits <= before.hits + 2);
    image_cache_close(cache);
}

static void structs_of_other_headers_are_filled_as_far_as_they_go(void)
{
    struct {
        image_cache_statistics_t known;
        uint64_t appended[10];
        uint64_t behind;
    } newer;
    uint64_t older[3] = {7, 7, 7};
    image_cache_t *cache = open_cache("cache");
    image_cache_statistics_t now = statistics_of(cache);
    CHECK(now.hits > 0);
    memset(&newer, 7, sizeof newer);
    OK(image_cache_get_statistics(cache, &newer.known, sizeof newer - sizeof newer.behind, &check_error));
    CHECK(newer.known.images == now.images && newer.known.hits == now.hits && newer.known.misses == now.misses);
    for (int i = 0; i < 10; i++)
        CHECK(newer.appended[i] == 0);
    CHECK(newer.behind == UINT64_C(0x0707070707070707));

    OK(image_cache_get_statistics(cache, (image_cache_statistics_t *)(void *)older, 16, &check_error));
    CHECK(older[0] == now.images && older[1] == now.bytes && older[2] == 7);
    older[0] = older[1] = 7;
    OK(image_cache_get_statistics(cache, (image_cache_statistics_t *)(void *)older, 12, &check_error));
    CHECK(older[0] == now.images && older[2] == 7);

    const size_t sizes[] = {0, 4097, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        older[0] = 7;
        STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT,
               image_cache_get_statistics(cache, (image_cache_statistics_t *)(void *)older, sizes[i], &check_error));
        CHECK(older[0] == 7); /* nothing is written where the size cannot be right */
    }
    image_cache_close(cache);
}

static void set_accessed(const char *path, time_t seconds_ago)
{
    struct timespec times[2] = {{time(NULL) - seconds_ago, 0}, {0, UTIME_OMIT}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

/* Empty and pinned images are not evicted. With the SQLite driver, only the library sets the times of access. */
static void the_next_victim_is_what_a_prune_evicts_first(void)
{
    image_cache_t *cache = open_cache("victims");
    cache_image(cache, "empty", "");
    cache_image(cache, "pinned", "bytes");
    OK(image_cache_pin(cache, "pinned", "guest", 3600, &check_error));
    CHECK(statistics_of(cache).next_victim_idle == 0);
    if (check_driver == IMAGE_CACHE_DRIVER_XATTR) {
        cache_image(cache, "victim", "bytes");
        set_accessed(in_directory("victims/empty"), 1000000);
        set_accessed(in_directory("victims/pinned"), 100000);
        set_accessed(in_directory("victims/victim"), 10000);
        uint64_t idle = statistics_of(cache).next_victim_idle;
        CHECK(idle >= 10000 && idle < 100000);
        OK(image_cache_unpin(cache, "pinned", "guest", &check_error));
        CHECK(statistics_of(cache).next_victim_idle >= 100000);
    }
    image_cache_close(cache);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    processes_add_up_exactly();
    a_killed_process_loses_what_it_had_not_written();
    structs_of_other_headers_are_filled_as_far_as_they_go();
    the_next_victim_is_what_a_prune_evicts_first();
    return 0;
}
