#include "readers.h"

#include "checks.h"
#include "content.h"
#include "model.h"

#include <string.h>

enum { READERS = 4 };

typedef struct {
    image_cache_reader_t *reader;
    image_t *image;
    unsigned seed, revision; /* of the image, when it was opened */
    uint64_t size, offset;
} reader_t;

static reader_t readers[READERS];

static reader_t *pick(void) { return &readers[below(READERS)]; }

static void end(reader_t *reader)
{
    if (reader->reader == NULL)
        return;
    trace("reader_close %td\n", reader - readers);
    image_cache_reader_close(reader->reader);
    close_image(reader->image, reader->revision);
    *reader = (reader_t){0};
}

void close_reader(void) { end(pick()); }

void close_readers(void)
{
    for (int i = 0; i < READERS; i++)
        end(&readers[i]);
}

void open_reader(image_cache_t *cache)
{
    reader_t *reader = pick();
    image_t *image = &images[below(IMAGES)];
    end(reader);
    trace("open_for_read %td %.20s\n", reader - readers, image->id);
    STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
           image_cache_open_for_read(cache, image->id, &reader->reader, &last_error));
    MUST((reader->reader != NULL) == image->cached);
    if (!image->cached)
        return;
    open_image(image);
    *reader = (reader_t){reader->reader, image, image->seed, image->revision, image->size, 0};
    MUST(image_cache_reader_size(reader->reader) == image->size);
    MUST(image_cache_reader_fd(reader->reader) >= 0);
}

void read_on(void)
{
    reader_t *reader = pick();
    size_t length = next_length(), got = 77;
    bool anywhere = next_byte() % 2;
    if (reader->reader == NULL)
        return;
    uint64_t offset = anywhere ? (uint64_t)next_length() : reader->offset;
    trace("read %td %zu at %" PRIu64 "\n", reader - readers, length, offset);
    memset(buffer, 0, sizeof buffer);
    OK(anywhere ? image_cache_read_at(reader->reader, offset, buffer, length, &got, &last_error)
                : image_cache_read(reader->reader, buffer, length, &got, &last_error));
    uint64_t left = offset < reader->size ? reader->size - offset : 0;
    MUST(got <= length && got <= left && (got > 0 || length == 0 || left == 0));
    check_buffer(reader->seed, offset, got);
    if (!anywhere)
        reader->offset += got;
}
