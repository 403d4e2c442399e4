/*
 * One cache handle and many threads: no image is written twice, no hit is lost, the threads share the queue, and every
 * read returns the whole image.
 */
#include <image_cache.h>

#include "check.h"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 25, QUEUED = 40, LONG = 300000 };

static image_cache_t *cache;
static pthread_barrier_t barrier;
static int begun[ROUNDS]; /* the number of threads that began to write the image of a round */
static uint64_t fetched_by_all, fetches;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void count(uint64_t *number, uint64_t more)
{
    pthread_mutex_lock(&counting);
    *number += more;
    pthread_mutex_unlock(&counting);
}

static void run_threads(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, body, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&barrier);
}

/* All threads begin to write the same image at the same time. One succeeds, the others get a status. */
static void *race_for_images(void *number)
{
    int me = *(int *)number;
    char id[32], byte = (char)('A' + me), *bytes = malloc(LONG);
    CHECK(bytes != NULL);
    memset(bytes, byte, LONG);
    for (int round = 0; round < ROUNDS; round++) {
        image_cache_writer_t *writer = NULL;
        snprintf(id, sizeof id, "raced-%d", round);
        pthread_barrier_wait(&barrier);
        image_cache_status_t status = image_cache_begin_write(cache, id, &writer, &check_error);
        if (status != IMAGE_CACHE_OK) {
            CHECK(status == IMAGE_CACHE_ERROR_BEING_CACHED || status == IMAGE_CACHE_ERROR_ALREADY_CACHED);
            continue;
        }
        pthread_mutex_lock(&counting);
        begun[round]++;
        pthread_mutex_unlock(&counting);
        for (size_t at = 0; at < LONG; at += LONG / 4)
            OK(image_cache_write_chunk(writer, bytes + at, LONG / 4, &check_error));
        OK(image_cache_commit(writer, &check_error));
    }
    free(bytes);
    return NULL;
}

static void every_image_has_one_writer(void)
{
    run_threads(race_for_images);
    char *bytes = malloc(LONG);
    CHECK(bytes != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        image_cache_reader_t *reader = NULL;
        size_t length = 0;
        char id[32];
        CHECK(begun[round] == 1);
        snprintf(id, sizeof id, "raced-%d", round);
        OK(image_cache_open_for_read(cache, id, &reader, &check_error));
        CHECK(image_cache_reader_size(reader) == LONG);
        OK(image_cache_read_at(reader, 0, bytes, LONG, &length, &check_error));
        CHECK(length == LONG);
        for (size_t i = 1; i < LONG; i++)
            CHECK(bytes[i] == bytes[0]);
        image_cache_reader_close(reader);
    }
    free(bytes);
}

/* All threads read one image while they cache and delete others. */
static void *read_and_churn(void *number)
{
    int me = *(int *)number;
    char id[32];
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        check_image(cache, "popular", "read by all");
        snprintf(id, sizeof id, "own-%d-%d", me, round);
        cache_image(cache, id, id);
        check_image(cache, id, id);
        image_cache_list_t *list = NULL;
        const image_cache_entry_t *entry;
        OK(image_cache_list_cached(cache, &list, &check_error));
        bool found = false;
        while (image_cache_list_next(list, &entry))
            found = found || strcmp(entry->image_id, id) == 0;
        CHECK(found);
        image_cache_list_free(list);
        OK(image_cache_delete_cached_image(cache, id, &check_error));
        CHECK(!is_cached(cache, id));
    }
    return NULL;
}

static image_cache_status_t fetch_once(void *user_data, const char *id, image_cache_writer_t *writer)
{
    (void)user_data;
    count(&fetches, 1);
    return image_cache_write_chunk(writer, id, strlen(id), NULL);
}

static void *prefetch_together(void *number)
{
    (void)number;
    uint64_t fetched = 7, failed = 7;
    pthread_barrier_wait(&barrier);
    OK(image_cache_prefetch(cache, fetch_once, NULL, &fetched, &failed, &check_error));
    CHECK(failed == 0);
    count(&fetched_by_all, fetched);
    return NULL;
}

static void the_queue_is_shared(void)
{
    char id[32];
    bool queued = false;
    for (int i = 0; i < QUEUED; i++) {
        snprintf(id, sizeof id, "queued-%d", i);
        OK(image_cache_queue_image(cache, id, &queued, &check_error));
        CHECK(queued);
    }
    run_threads(prefetch_together);
    CHECK(fetches == QUEUED && fetched_by_all == QUEUED);
    for (int i = 0; i < QUEUED; i++) {
        snprintf(id, sizeof id, "queued-%d", i);
        check_image(cache, id, id);
        OK(image_cache_is_queued(cache, id, &queued, &check_error));
        CHECK(!queued);
    }
}

/* A thread may use and close another thread's handle, one thread at a time. */
static void *close_reader(void *reader)
{
    check_rest(reader, "read by all");
    image_cache_reader_close(reader);
    return NULL;
}

static void handles_move_between_threads(void)
{
    image_cache_reader_t *reader = NULL;
    pthread_t thread;
    OK(image_cache_open_for_read(cache, "popular", &reader, &check_error));
    CHECK(pthread_create(&thread, NULL, close_reader, reader) == 0 && pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    cache = open_cache("cache");
    cache_image(cache, "popular", "read by all");
    every_image_has_one_writer();
    run_threads(read_and_churn);
    handles_move_between_threads();
    CHECK(hits_of(cache, "popular") == THREADS * ROUNDS + 1);
    the_queue_is_shared();
    uint64_t size = 0;
    OK(image_cache_get_cache_size(cache, &size, &check_error));
    CHECK(size == 11 + (uint64_t)ROUNDS * LONG + QUEUED * 9 - 10); /* "queued-0" to "queued-9" are a byte shorter */
    image_cache_close(cache);
    return 0;
}
