/*
 * Many processes on one folder: they may all be the first to open it, each image has one writer among them, no hit is
 * lost, the queue is shared, two that prune evict no more than is too much, and the killed leave nothing behind.
 */
#include <image_cache.h>

#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { PROCESSES = 4, ROUNDS = 30, IMAGES = 40, LENGTH = 100000 };

/* The starting gun: children wait until the parent closes its end. They are forked before the parent opens the cache that
 * they are to open: with the SQLite driver, nothing that was open at a fork may be opened in the child. */
static int gun[2];
static pid_t children[PROCESSES];

static void wait_for_the_gun(void)
{
    char byte;
    close(gun[1]);
    CHECK(read(gun[0], &byte, 1) == 0);
    close(gun[0]);
}

static void line_up(int (*body)(int))
{
    CHECK(pipe2(gun, O_CLOEXEC) == 0);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            wait_for_the_gun();
            _exit(body(i));
        }
    }
}

/* Lets them go, all at once. Returns the sum of what they return. */
static int fire(void)
{
    int sum = 0;
    close(gun[0]);
    close(gun[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int how = 0;
        CHECK(waitpid(children[i], &how, 0) == children[i]);
        CHECK(WIFEXITED(how) && WEXITSTATUS(how) < 200);
        sum += WEXITSTATUS(how);
    }
    return sum;
}

/* Children return 2 and more: a failed check exits with 1, and the sum would be short. */
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

static void all_may_be_the_first_to_open(void)
{
    line_up(open_and_cache_one);
    CHECK(fire() == 2 * PROCESSES);
    image_cache_t *cache = open_cache("new");
    uint64_t bytes = 0;
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == PROCESSES * strlen("first-00"));
    image_cache_close(cache);
}

/* Each fills its images with its own letter: a mixture would show. Returns 2 for each image that it cached. */
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
    line_up(race_for_images);
    CHECK(fire() == 2 * ROUNDS);
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
    line_up(read_the_popular_one);
    image_cache_t *cache = open_cache("hits");
    cache_image(cache, "popular", "read by all");
    CHECK(fire() == 2 * PROCESSES);
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
    line_up(prefetch);
    image_cache_t *cache = open_cache("queue");
    char id[32];
    bool queued = false;
    for (int i = 0; i < IMAGES; i++) {
        name_image(id, "queued", i);
        OK(image_cache_queue_image(cache, id, &queued, &check_error));
    }
    CHECK(fire() == 2 * PROCESSES + IMAGES);
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
    OK(image_cache_open(in_folder("small"), options, &cache, &check_error));
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

static void those_that_prune_at_once_evict_what_is_too_much(void)
{
    line_up(prune);
    image_cache_t *cache = open_small();
    char id[32];
    for (int i = 0; i < IMAGES; i++) {
        name_image(id, "small", i);
        cache_image(cache, id, "x");
    }
    CHECK(fire() == 2 * PROCESSES + IMAGES - 10);
    CHECK(!is_cached(cache, "small-29") && is_cached(cache, "small-30"));
    image_cache_close(cache);
}

static char program[PATH_MAX];

/* Works until it is killed: a program of its own, with the same folder. */
static void work_for_ever(const char *folder, const char *driver)
{
    snprintf(check_folder, sizeof check_folder, "%s", folder);
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

/* Whenever a process is killed, a live one finds all images whole, none taken, and the size equal to the files'. */
static void the_killed_leave_nothing_behind(void)
{
    image_cache_t *cache = open_cache("killed");
    for (int kills = 0; kills < 100; kills++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            execl(program, program, "--work", check_folder,
                  check_driver == IMAGE_CACHE_DRIVER_XATTR ? "xattr" : "sqlite", (char *)NULL);
            _exit(1);
        }
        usleep((useconds_t)(10000 + kills * 97)); /* when it dies is left to chance; any moment is right */
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
            cache_image(cache, id, "whole"); /* at once: a dead writer blocks nobody */
        }
    }
    image_cache_close(cache);
}

int main(int argc, char **argv)
{
    CHECK(realpath(argv[0], program) != NULL);
    if (argc == 4 && strcmp(argv[1], "--work") == 0)
        work_for_ever(argv[2], argv[3]);
    check_start(argc, argv);
    all_may_be_the_first_to_open();
    every_image_has_one_writer();
    no_hit_is_lost();
    the_queue_is_shared();
    those_that_prune_at_once_evict_what_is_too_much();
    the_killed_leave_nothing_behind();
    return 0;
}
