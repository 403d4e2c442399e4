#include "exercise.h"

#include <image_cache.h>
#include <stdio.h>
#include <string.h>

/* Prints a message and returns 1 unless CONDITION. */
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s (%s)\n", __FILE__, __LINE__, #condition, error.message);                \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static int write_and_read(const image_cache_t *cache)
{
    image_cache_error_t error = {0};
    image_cache_writer_t *writer = NULL;
    image_cache_reader_t *reader = NULL;
    char buffer[64];
    size_t length = 0;
    EXPECT(image_cache_begin_write(cache, "written", &writer, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_write_chunk(writer, "0123456789", 10, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_commit(writer, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_open_for_read(cache, "written", &reader, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_read(reader, buffer, sizeof buffer, &length, &error) == IMAGE_CACHE_OK);
    EXPECT(length == 10 && memcmp(buffer, "0123456789", 10) == 0);
    image_cache_reader_close(reader);
    return 0;
}

static int64_t source(void *user_data, void *buffer, size_t capacity)
{
    int *calls = user_data;
    (void)capacity;
    if ((*calls)++ == 3)
        return 0;
    memcpy(buffer, "tea", 3);
    return 3;
}

static int tee(const image_cache_t *cache)
{
    image_cache_error_t error = {0};
    image_cache_tee_t *tee = NULL;
    char buffer[64];
    size_t length = 1, total = 0;
    int calls = 0;
    EXPECT(image_cache_tee_open(cache, "teed", source, &calls, &tee, &error) == IMAGE_CACHE_OK);
    for (; length > 0; total += length)
        EXPECT(image_cache_tee_read(tee, buffer + total, sizeof buffer - total, &length, &error) == IMAGE_CACHE_OK);
    EXPECT(total == 9 && memcmp(buffer, "teateatea", 9) == 0);
    EXPECT(image_cache_tee_is_caching(tee));
    image_cache_tee_close(tee);
    return 0;
}

static int list_and_prune(const image_cache_t *cache)
{
    image_cache_error_t error = {0};
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry = NULL;
    uint64_t images = 0, bytes = 0;
    EXPECT(image_cache_list_cached(cache, &list, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_list_next(list, &entry) && strcmp(entry->image_id, "teed") == 0 && entry->size == 9);
    EXPECT(image_cache_list_next(list, &entry) && strcmp(entry->image_id, "written") == 0 && entry->hits == 1);
    EXPECT(!image_cache_list_next(list, &entry));
    image_cache_list_free(list);
    /* The limit allows one of the two, and "written" was accessed first. */
    EXPECT(image_cache_prune(cache, &images, &bytes, &error) == IMAGE_CACHE_OK);
    EXPECT(images == 1 && bytes == 10);
    return 0;
}

int exercise(const char *directory)
{
    image_cache_error_t error = {0};
    image_cache_options_t *options = image_cache_options_new();
    image_cache_t *cache = NULL;
    EXPECT(image_cache_options_set_max_size(options, 15, &error) == IMAGE_CACHE_OK);
    EXPECT(image_cache_open(directory, options, &cache, &error) == IMAGE_CACHE_OK);
    image_cache_options_free(options);
    int failed = write_and_read(cache) || tee(cache) || list_and_prune(cache);
    image_cache_close(cache);
    return failed;
}
