/*
 * The calls that bring images into the cache: writers, tees, and prefetch with a fetch function.
 */
#include "model.h"

#include <string.h>

/* ---- Writers and tees -------------------------------------------------------------------------------------------- */

void end_stream(stream_t *stream, bool commit)
{
    if (stream->writer != NULL && commit) {
        image_cache_status_t expected = stream->lost          ? IMAGE_CACHE_ERROR_LOST
                                        : !fits(stream)       ? IMAGE_CACHE_ERROR_SIZE_MISMATCH
                                                              : IMAGE_CACHE_OK;
        image_cache_status_t status = image_cache_commit(stream->writer, &last_error);
        if (stream->lost && stream->expected != UINT64_MAX && status == IMAGE_CACHE_ERROR_SIZE_MISMATCH)
            expected = status; /* both are true */
        if (STATUS(expected, status) == IMAGE_CACHE_OK)
            publish(stream);
    } else if (stream->writer != NULL) {
        image_cache_abort(stream->writer, stream->seed % 2 ? "given up" : NULL);
    }
    if (stream->tee != NULL) {
        image_cache_tee_close(stream->tee);
        if (stream->owns && !stream->ended && stream->expected == stream->size)
            publish(stream);
    }
    release(stream);
    *stream = (stream_t){0};
}

static int64_t source(void *user_data, void *bytes, size_t capacity)
{
    stream_t *stream = user_data;
    uint64_t length = stream->end - stream->size;
    if (length == 0)
        return stream->fails ? -1 : 0;
    length = length < stream->step ? length : stream->step;
    length = length < capacity ? length : capacity;
    for (size_t i = 0; i < length; i++)
        ((char *)bytes)[i] = pattern(stream->seed, stream->size + i);
    return (int64_t)length;
}

void begin_write(image_cache_t *cache)
{
    stream_t *stream = &streams[below(STREAMS)];
    int image = (int)below(IMAGES);
    trace("begin_write %td %.20s\n", stream - streams, images[image].id);
    end_stream(stream, false);
    begin(stream, image);
    STATUS(stream->owns             ? IMAGE_CACHE_OK
           : images[image].cached   ? IMAGE_CACHE_ERROR_ALREADY_CACHED
                                    : IMAGE_CACHE_ERROR_BEING_CACHED,
           image_cache_begin_write(cache, images[image].id, &stream->writer, &last_error));
    MUST((stream->writer != NULL) == stream->owns);
}

void open_tee(image_cache_t *cache)
{
    stream_t *stream = &streams[below(STREAMS)];
    int image = (int)below(IMAGES);
    trace("tee_open %td %.20s\n", stream - streams, images[image].id);
    end_stream(stream, false);
    begin(stream, image);
    stream->end = some_length(), stream->step = some_length() + 1, stream->fails = next_byte() % 4 == 0;
    OK(image_cache_tee_open(cache, images[image].id, source, stream, &stream->tee, &last_error));
    MUST(image_cache_tee_is_caching(stream->tee) == stream->owns);
}

void expect_size(void)
{
    stream_t *stream = &streams[below(STREAMS)];
    uint64_t size = stream->tee != NULL && next_byte() % 4 != 0 ? stream->end : some_length();
    if (stream->lost)
        return; /* it can only fail, and what it is told first is all the same */
    trace("expect_size %td %" PRIu64 "\n", stream - streams, size);
    bool allowed = !stream->begun && !stream->ended && (stream->expected == UINT64_MAX || stream->expected == size);
    image_cache_status_t expected = allowed ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_INVALID_ARGUMENT;
    if (stream->writer != NULL) {
        STATUS(expected, image_cache_writer_expect_size(stream->writer, size, &last_error));
    } else if (stream->tee != NULL) {
        STATUS(expected, image_cache_tee_expect_size(stream->tee, size, &last_error));
        if (!allowed && !stream->ended)
            release(stream); /* given up, since it could not be checked */
    } else {
        return;
    }
    if (allowed)
        stream->expected = size;
}

void write_or_read_on(void)
{
    stream_t *stream = &streams[below(STREAMS)];
    size_t length = some_length();
    if (stream->writer != NULL) {
        trace("write_chunk %td %zu\n", stream - streams, length);
        fill_buffer(stream->seed, stream->size, length);
        image_cache_status_t status = image_cache_write_chunk(stream->writer, buffer, length, &last_error);
        if (stream->lost) { /* and so for ever; a chunk of nothing may not notice */
            MUST(status == IMAGE_CACHE_ERROR_LOST || status == IMAGE_CACHE_ERROR_SIZE_MISMATCH || length == 0);
            return;
        }
        stream->size += length;
        stream->begun = true; /* a chunk of nothing is a chunk */
        bool too_long = stream->expected != UINT64_MAX && stream->size > stream->expected;
        STATUS(too_long ? IMAGE_CACHE_ERROR_SIZE_MISMATCH : IMAGE_CACHE_OK, status);
    } else if (stream->tee != NULL) {
        size_t came = 77;
        trace("tee_read %td %zu\n", stream - streams, length);
        bool at_end = length > 0 && stream->size == stream->end;
        image_cache_status_t expected = !at_end && !stream->ended                      ? IMAGE_CACHE_OK
                                        : stream->fails                                ? IMAGE_CACHE_ERROR_SOURCE
                                        : fits(stream)                                 ? IMAGE_CACHE_OK
                                                                                       : IMAGE_CACHE_ERROR_SIZE_MISMATCH;
        memset(buffer, 0, sizeof buffer);
        STATUS(expected, image_cache_tee_read(stream->tee, buffer, length, &came, &last_error));
        MUST(came <= length && came <= stream->end - stream->size && (came > 0 || length == 0 || at_end || stream->ended));
        check_buffer(stream->seed, stream->size, came);
        stream->size += came;
        stream->begun = stream->begun || came > 0;
        if (stream->expected != UINT64_MAX && stream->size > stream->expected)
            release(stream);
        if (at_end && !stream->ended) {
            stream->ended = true;
            if (stream->owns && expected == IMAGE_CACHE_OK)
                publish(stream);
            release(stream);
        }
        MUST(!stream->owns || image_cache_tee_is_caching(stream->tee));
    }
}

/* ---- Prefetch ---------------------------------------------------------------------------------------------------- */

typedef struct {
    image_cache_t *cache;
    uint64_t fetched, failed;
    stream_t stream;
} fetch_t;

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *writer)
{
    fetch_t *fetched = user_data;
    const image_t *image = find_image(id);
    MUST(image != NULL && image->queued && !image->cached && image->owner == NOBODY);
    stream_t *stream = &fetched->stream;
    *stream = new_stream((int)(image - images));
    bool being_cached = false;
    image_cache_writer_t *other = NULL;
    OK(image_cache_is_being_cached(fetched->cache, id, &being_cached, &last_error));
    MUST(being_cached);
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(fetched->cache, id, &other, &last_error));
    stream->size = some_length();
    fill_buffer(stream->seed, 0, stream->size);
    OK(image_cache_write_chunk(writer, buffer, stream->size, &last_error));
    unsigned choice = below(8);
    bool gives_up = choice == 0, fails = choice == 2;
    trace("  fetch %.20s: %u\n", id, choice);
    if (gives_up)
        image_cache_abort(writer, "within");
    if (choice == 1)
        STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_commit(writer, &last_error));
    fetched->failed += gives_up || fails;
    fetched->fetched += !gives_up && !fails;
    if (!gives_up && !fails)
        publish(stream);
    return fails ? IMAGE_CACHE_ERROR_SOURCE : IMAGE_CACHE_OK;
}

void prefetch(image_cache_t *cache)
{
    fetch_t expected = {.cache = cache};
    uint64_t fetched = 77, failed = 77;
    trace("prefetch\n");
    OK(image_cache_prefetch(cache, fetch, &expected, &fetched, &failed, &last_error));
    SAYING(fetched == expected.fetched && failed == expected.failed, "%" PRIu64 " and %" PRIu64, fetched, failed);
}
