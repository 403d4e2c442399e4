/* Caches an image and reads it back. */
#include <image_cache.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    image_cache_t *cache = NULL;
    image_cache_writer_t *writer = NULL;
    image_cache_reader_t *reader = NULL;
    image_cache_error_t error;
    char buffer[64];
    size_t length = 0;
    if (argc != 2)
        return 2;
    if (image_cache_open(argv[1], NULL, &cache, &error) != IMAGE_CACHE_OK
        || image_cache_begin_write(cache, "cirros", &writer, &error) != IMAGE_CACHE_OK
        || image_cache_write_chunk(writer, "bytes", 5, &error) != IMAGE_CACHE_OK
        || image_cache_commit(writer, &error) != IMAGE_CACHE_OK
        || image_cache_open_for_read(cache, "cirros", &reader, &error) != IMAGE_CACHE_OK
        || image_cache_read(reader, buffer, sizeof buffer, &length, &error) != IMAGE_CACHE_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    image_cache_reader_close(reader);
    image_cache_close(cache);
    printf("image_cache %s: %zu bytes read back\n", image_cache_version(), length);
    return length == 5 && memcmp(buffer, "bytes", 5) == 0 ? 0 : 1;
}
