#include "fetches.h"

#include "checks.h"
#include "content.h"
#include "model.h"

#include <string.h>

typedef struct {
    image_cache_stream_t *stream;
    unsigned seed;
    uint64_t size; /* of the source */
    size_t step;   /* the most that the source returns at once */
    bool source_fails;
    uint64_t last; /* the end of the last bytes that the source returned */
} fetch_t;

static int64_t source(void *user_data, uint64_t offset, void *bytes, size_t capacity)
{
    fetch_t *fetch = user_data;
    uint64_t left = offset < fetch->size ? fetch->size - offset : 0;
    size_t length = left < fetch->step ? (size_t)left : fetch->step;
    length = length < capacity ? length : capacity;
    if (length == 0)
        return fetch->source_fails ? -1 : 0;
    fill(bytes, fetch->seed, offset, length);
    fetch->last = offset + length > fetch->last ? offset + length : fetch->last;
    return (int64_t)length;
}

/* Reads at an offset. Returns whether this met the end. */
static bool read_anywhere(fetch_t *fetch, uint64_t size)
{
    size_t length = next_length(), got = 77;
    uint64_t offset = next_length();
    bool at_end = offset >= size && length > 0;
    memset(buffer, 0, sizeof buffer);
    STATUS(at_end && fetch->source_fails ? IMAGE_CACHE_ERROR_SOURCE : IMAGE_CACHE_OK,
           image_cache_stream_read_at(fetch->stream, offset, buffer, length, &got, &last_error));
    MUST(got <= length && (got > 0 || length == 0 || at_end));
    check_buffer(fetch->seed, offset, got);
    return at_end;
}

static void read_to_end(const fetch_t *fetch, uint64_t size)
{
    uint64_t position = 0;
    size_t got = 77;
    image_cache_status_t expected = fetch->source_fails ? IMAGE_CACHE_ERROR_SOURCE : IMAGE_CACHE_OK;
    for (; position < size; position += got) {
        OK(image_cache_stream_read(fetch->stream, buffer, sizeof buffer, &got, &last_error));
        MUST(got > 0 && got <= size - position);
        check_buffer(fetch->seed, position, got);
    }
    for (int i = 0; i < 2; i++) {
        STATUS(expected, image_cache_stream_read(fetch->stream, buffer, sizeof buffer, &got, &last_error));
        MUST(got == 0);
    }
}

void fetch_stream(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    unsigned choice = next_byte();
    fetch_t fetch = {.size = next_length(), .step = next_length() + 1};
    bool cached = image->cached, to_end = choice % 4 != 0, anywhere = choice / 4 % 2;
    unsigned revision = image->revision;
    trace("stream %.20s %u\n", image->id, choice);
    /* An unfinished fetch goes on with the same content. */
    if (image->fetched_seed == 0)
        image->fetched = 0;
    fetch.seed = cached ? image->seed : image->fetched_seed ? image->fetched_seed : new_seed();
    fetch.source_fails = !cached && choice / 8 % 4 == 0;
    fetch.size = fetch.size < image->fetched ? image->fetched : fetch.size;
    OK(image_cache_stream_open(cache, image->id, source, &fetch, &fetch.stream, &last_error));
    MUST((image_cache_stream_role(fetch.stream) == IMAGE_CACHE_STREAM_CACHED) == cached);
    if (cached)
        open_image(image);
    /* A stream of an image that a writer has would wait for it. */
    if (cached || !image->being_cached) {
        uint64_t size = cached ? image->size : fetch.size;
        bool ended = false;
        fetch.last = image->fetched;
        if (anywhere)
            ended = read_anywhere(&fetch, size);
        if (to_end)
            read_to_end(&fetch, size);
        if (!cached && (ended || to_end) && !fetch.source_fails)
            publish(image, fetch.seed, size);
        else if (!cached && fetch.last > 0)
            image->fetched_seed = fetch.seed,
            image->fetched = fetch.last; /* without bytes there is nothing to resume */
    }
    image_cache_stream_close(fetch.stream);
    if (cached)
        close_image(image, revision);
}
