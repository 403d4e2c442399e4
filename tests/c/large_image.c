/*
 * An image of more than 4 GiB: no length, offset or total is truncated to 32 bits. All bytes are zero, except the two
 * at the 4 GiB boundary and the last one. The test uses 4 GiB of disk for some seconds.
 */
#include <image_cache.h>

#include "check.h"

#include <sys/statvfs.h>

#define BOUNDARY (UINT64_C(1) << 32)
#define SIZE (BOUNDARY + 12345)

enum { CHUNK = 8 << 20 };

static char chunk[CHUNK];

/* The image's byte at an offset. */
static char byte_at(uint64_t offset)
{
    return offset == BOUNDARY - 1 ? 'b' : offset == BOUNDARY ? 'a' : offset == SIZE - 1 ? 'z' : '\0';
}

static void fill(uint64_t offset, size_t length)
{
    static const uint64_t marks[] = {BOUNDARY - 1, BOUNDARY, SIZE - 1};
    memset(chunk, 0, length);
    for (size_t i = 0; i < 3; i++)
        if (marks[i] >= offset && marks[i] - offset < length)
            chunk[marks[i] - offset] = byte_at(marks[i]);
}

static void write_image(image_cache_t *cache)
{
    image_cache_writer_t *writer = NULL;
    OK(image_cache_begin_write(cache, "large", &writer, &check_error));
    OK(image_cache_writer_expect_size(writer, SIZE, &check_error));
    for (uint64_t offset = 0; offset < SIZE; offset += CHUNK) {
        size_t length = SIZE - offset < CHUNK ? (size_t)(SIZE - offset) : CHUNK;
        fill(offset, length);
        OK(image_cache_write_chunk(writer, chunk, length, &check_error));
    }
    OK(image_cache_commit(writer, &check_error));
}

static void read_image(image_cache_t *cache)
{
    image_cache_reader_t *reader = NULL;
    size_t length = 0;
    OK(image_cache_open_for_read(cache, "large", &reader, &check_error));
    CHECK(image_cache_reader_size(reader) == SIZE);
    OK(image_cache_read_at(reader, BOUNDARY - 2, chunk, 4, &length, &check_error));
    CHECK(length == 4 && memcmp(chunk, "\0ba\0", 4) == 0);
    OK(image_cache_read_at(reader, SIZE - 3, chunk, sizeof chunk, &length, &check_error));
    CHECK(length == 3 && memcmp(chunk, "\0\0z", 3) == 0);
    OK(image_cache_read_at(reader, SIZE, chunk, sizeof chunk, &length, &check_error));
    CHECK(length == 0);
    OK(image_cache_read_at(reader, UINT64_MAX - 1, chunk, sizeof chunk, &length, &check_error));
    CHECK(length == 0);

    uint64_t total = 0;
    do {
        OK(image_cache_read(reader, chunk, sizeof chunk, &length, &check_error));
        static const uint64_t marks[] = {BOUNDARY - 1, BOUNDARY, SIZE - 1};
        for (size_t i = 0; i < 3; i++)
            if (marks[i] >= total && marks[i] - total < length)
                CHECK(chunk[marks[i] - total] == byte_at(marks[i]));
        total += length;
    } while (length > 0);
    CHECK(total == SIZE);
    image_cache_reader_close(reader);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    struct statvfs disk;
    CHECK(statvfs(check_directory, &disk) == 0);
    if ((uint64_t)disk.f_bavail * disk.f_frsize < SIZE + (UINT64_C(1) << 30))
        check_skip("less than 5 GiB of disk are free");

    image_cache_t *cache = open_cache("cache");
    write_image(cache);
    read_image(cache);
    uint64_t bytes = 0, images = 0;
    OK(image_cache_get_image_size(cache, "large", &bytes, &check_error));
    CHECK(bytes == SIZE);
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == SIZE);
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry = NULL;
    OK(image_cache_list_cached(cache, &list, &check_error));
    CHECK(image_cache_list_next(list, &entry) && entry->size == SIZE && entry->hits == 1);
    CHECK(entry->allocated >= SIZE);
    image_cache_list_free(list);
    OK(image_cache_delete_all_cached_images(cache, &images, &check_error));
    CHECK(images == 1 && !exists(in_directory("cache/large")));
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == 0);
    image_cache_close(cache);
    return 0;
}
