/*
 * A fuzzer of the inspection. Its input is an image: it is written to a cache that accepts every format. The commit accepts or
 * refuses it; any other result, an access outside of a buffer or a panic is a failure.
 *
 *     formats [libFuzzer's options] [CORPUS_DIRECTORY...]      see scripts/fuzz.sh
 *
 * An input is a list of parts of the image: an offset of 3 bytes, little-endian, a length of 1 byte, and so many bytes. What lies
 * between the parts is 0. The image ends with the part that ends last. The corpus has the images of src/format/builders.rs.
 */
#include <image_cache.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONGEST = 6 << 20, HEAD = 4 };

static uint8_t image[LONGEST];
static image_cache_t *cache;
static image_cache_error_t error;

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %s\n", what, error.message);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char directory[4096];
    const char *parent = getenv("TMPDIR");
    image_cache_options_t *options = image_cache_options_new();
    (void)argc, (void)argv;
    snprintf(directory, sizeof directory, "%s/formats-XXXXXX", parent != NULL ? parent : "/tmp");
    require(mkdtemp(directory) != NULL, "mkdtemp");
    require(image_cache_options_set_durability(options, IMAGE_CACHE_DURABILITY_NONE, &error) == IMAGE_CACHE_OK,
            "options");
    require(image_cache_options_set_formats(options, "raw,qcow2,vmdk,vhd,vhdx,iso", &error) == IMAGE_CACHE_OK,
            "formats");
    require(image_cache_open(directory, options, &cache, &error) == IMAGE_CACHE_OK, "open");
    image_cache_options_free(options);
    return 0;
}

/* Makes the image. Returns its length. */
static size_t decode(const uint8_t *data, size_t size)
{
    size_t length = 0;
    while (size >= HEAD) {
        size_t offset = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16, count = data[3];
        data += HEAD, size -= HEAD;
        if (count > size)
            count = size;
        offset %= LONGEST - 255;
        memcpy(image + offset, data, count);
        if (offset + count > length)
            length = offset + count;
        data += count, size -= count;
    }
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    image_cache_writer_t *writer = NULL;
    size_t length = decode(data, size);
    require(image_cache_begin_write(cache, "image", &writer, &error) == IMAGE_CACHE_OK, "begin_write");
    require(image_cache_write_chunk(writer, image, length, &error) == IMAGE_CACHE_OK, "write_chunk");
    memset(image, 0, length);
    image_cache_status_t status = image_cache_commit(writer, &error);
    require(status == IMAGE_CACHE_OK || status == IMAGE_CACHE_ERROR_REFUSED, "commit");
    if (status == IMAGE_CACHE_OK)
        require(image_cache_delete_cached_image(cache, "image", &error) == IMAGE_CACHE_OK, "delete_cached_image");
    return 0;
}
