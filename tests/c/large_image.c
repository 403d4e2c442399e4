/*
 * An image of more than 4 GiB: no length, offset or total is cut to 32 bits. The source is all zeros but for a mark on
 * either side of the 4 GiB line and at the end. It takes 4 GiB of disk for some seconds.
 */
#include <image_cache.h>

#include "check.h"

#include <sys/statvfs.h>

#define LINE (UINT64_C(1) << 32)
#define SIZE (LINE + 12345)

enum { CHUNK = 8 << 20 };

static char chunk[CHUNK];

/* The byte of the image at an offset. */
static char byte_at(uint64_t offset)
{
    return offset == LINE - 1 ? 'b' : offset == LINE ? 'a' : offset == SIZE - 1 ? 'z' : '\0';
}

static void fill(uint64_t offset, size_t length)
{
    static const uint64_t marks[] = {LINE - 1, LINE, SIZE - 1};
    memset(chunk, 0, length);
    for (size_t i = 0; i < 3; i++)
        if (marks[i] >= offset && marks[i] - offset < length)
            chunk[marks[i] - offset] = byte_at(marks[i]);
}

static void write_it(image_cache_t *cache)
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

static void read_it(image_cache_t *cache)
{
    image_cache_reader_t *reader = NULL;
    size_t length = 0;
    OK(image_cache_open_for_read(cache, "large", &reader, &check_error));
    CHECK(image_cache_reader_size(reader) == SIZE);
    OK(image_cache_read_at(reader, LINE - 2, chunk, 4, &length, &check_error));
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
        static const uint64_t marks[] = {LINE - 1, LINE, SIZE - 1};
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
    CHECK(statvfs(check_folder, &disk) == 0);
    if ((uint64_t)disk.f_bavail * disk.f_frsize < SIZE + (UINT64_C(1) << 30))
        check_skip("this needs 5 GiB of free disk");

    image_cache_t *cache = open_cache("cache");
    write_it(cache);
    read_it(cache);
    uint64_t bytes = 0, images = 0;
    OK(image_cache_get_image_size(cache, "large", &bytes, &check_error));
    CHECK(bytes == SIZE);
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == SIZE);
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry = NULL;
    OK(image_cache_list_cached(cache, &list, &check_error));
    CHECK(image_cache_list_next(list, &entry) && entry->size == SIZE && entry->hits == 1);
    image_cache_list_free(list);
    OK(image_cache_delete_all_cached_images(cache, &images, &check_error));
    CHECK(images == 1 && !exists(in_folder("cache/large")));
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == 0);
    image_cache_close(cache);
    return 0;
}
