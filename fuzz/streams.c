#include "streams.h"

#include "checks.h"
#include "content.h"
#include "model.h"

#include <string.h>

enum { STREAMS = 5 };

typedef struct {
    image_cache_writer_t *writer; /* at most one of these two */
    image_cache_tee_t *tee;
    image_t *image;
    bool owns; /* it is the one that caches the image */
    bool begun, lost;
    bool ended;        /* a tee at its end */
    bool source_fails; /* a tee's source fails at its end */
    unsigned seed;
    uint64_t size, expected; /* expected: UINT64_MAX for no expectation */
    uint64_t source_size;    /* where a tee's source ends or fails */
    size_t step;             /* the most that the source returns at once */
} stream_t;

static stream_t streams[STREAMS];

static stream_t *pick(void) { return &streams[below(STREAMS)]; }

static bool has_expected_size(const stream_t *stream)
{
    return stream->expected == UINT64_MAX || stream->expected == stream->size;
}

static bool is_too_long(const stream_t *stream)
{
    return stream->expected != UINT64_MAX && stream->size > stream->expected;
}

/* ---- Ending ------------------------------------------------------------------------------------------------------ */

static void release_image(stream_t *stream)
{
    if (stream->owns)
        release(stream->image);
    stream->owns = false;
}

static void publish_stream(stream_t *stream)
{
    publish(stream->image, stream->seed, stream->size);
    stream->owns = false;
}

static void commit_writer(stream_t *stream)
{
    image_cache_status_t expected = stream->lost                 ? IMAGE_CACHE_ERROR_LOST
                                    : !has_expected_size(stream) ? IMAGE_CACHE_ERROR_SIZE_MISMATCH
                                                                 : IMAGE_CACHE_OK;
    image_cache_status_t status = image_cache_commit(stream->writer, &last_error);
    if (stream->lost && stream->expected != UINT64_MAX && status == IMAGE_CACHE_ERROR_SIZE_MISMATCH)
        expected = status; /* both are true */
    if (STATUS(expected, status) == IMAGE_CACHE_OK)
        publish_stream(stream);
}

static void close_tee(stream_t *stream)
{
    image_cache_tee_close(stream->tee);
    if (stream->owns && !stream->ended && stream->expected == stream->size)
        publish_stream(stream);
}

static void end(stream_t *stream, bool commit)
{
    if (stream->writer != NULL && commit)
        commit_writer(stream);
    else if (stream->writer != NULL)
        image_cache_abort(stream->writer, stream->seed % 2 ? "aborted" : NULL);
    if (stream->tee != NULL)
        close_tee(stream);
    release_image(stream);
    *stream = (stream_t){0};
}

void commit_stream(void) { end(pick(), true); }
void abort_stream(void) { end(pick(), false); }

void end_streams(bool commit)
{
    for (int i = 0; i < STREAMS; i++)
        end(&streams[i], commit);
}

void lose_streams(void)
{
    for (int i = 0; i < STREAMS; i++) {
        if (streams[i].owns)
            streams[i].lost = true;
        release_image(&streams[i]);
    }
}

/* ---- Beginning --------------------------------------------------------------------------------------------------- */

static int64_t source(void *user_data, void *bytes, size_t capacity)
{
    stream_t *stream = user_data;
    uint64_t length = stream->source_size - stream->size;
    if (length == 0)
        return stream->source_fails ? -1 : 0;
    length = length < stream->step ? length : stream->step;
    length = length < capacity ? length : capacity;
    fill(bytes, stream->seed, stream->size, length);
    return (int64_t)length;
}

/* A stream and an image from the input. The stream's old handle is aborted. */
static stream_t *begin(const char *call)
{
    stream_t *stream = pick();
    image_t *image = &images[below(IMAGES)];
    trace("%s %td %.20s\n", call, stream - streams, image->id);
    end(stream, false);
    *stream = (stream_t){.image = image, .seed = new_seed(), .expected = UINT64_MAX};
    stream->owns = claim(image);
    return stream;
}

void begin_write(image_cache_t *cache)
{
    stream_t *stream = begin("begin_write");
    STATUS(stream->owns            ? IMAGE_CACHE_OK
           : stream->image->cached ? IMAGE_CACHE_ERROR_ALREADY_CACHED
                                   : IMAGE_CACHE_ERROR_BEING_CACHED,
           image_cache_begin_write(cache, stream->image->id, &stream->writer, &last_error));
    MUST((stream->writer != NULL) == stream->owns);
}

void open_tee(image_cache_t *cache)
{
    stream_t *stream = begin("tee_open");
    stream->source_size = next_length();
    stream->step = next_length() + 1;
    stream->source_fails = next_byte() % 4 == 0;
    OK(image_cache_tee_open(cache, stream->image->id, source, stream, &stream->tee, &last_error));
    MUST(image_cache_tee_is_caching(stream->tee) == stream->owns);
}

/* ---- Between ----------------------------------------------------------------------------------------------------- */

void expect_size(void)
{
    stream_t *stream = pick();
    uint64_t size = stream->tee != NULL && next_byte() % 4 != 0 ? stream->source_size : next_length();
    if (stream->lost)
        return; /* it can only fail, with any of several statuses */
    trace("expect_size %td %" PRIu64 "\n", stream - streams, size);
    bool allowed = !stream->begun && !stream->ended && (stream->expected == UINT64_MAX || stream->expected == size);
    image_cache_status_t expected = allowed ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_INVALID_ARGUMENT;
    if (stream->writer != NULL) {
        STATUS(expected, image_cache_writer_expect_size(stream->writer, size, &last_error));
    } else if (stream->tee != NULL) {
        STATUS(expected, image_cache_tee_expect_size(stream->tee, size, &last_error));
        if (!allowed && !stream->ended)
            release_image(stream); /* a tee that cannot check the image stops caching */
    } else {
        return;
    }
    if (allowed)
        stream->expected = size;
}

static void write_chunk(stream_t *stream, size_t length)
{
    trace("write_chunk %td %zu\n", stream - streams, length);
    fill(buffer, stream->seed, stream->size, length);
    image_cache_status_t status = image_cache_write_chunk(stream->writer, buffer, length, &last_error);
    if (stream->lost) { /* it fails from then on; an empty chunk may succeed */
        MUST(status == IMAGE_CACHE_ERROR_LOST || status == IMAGE_CACHE_ERROR_SIZE_MISMATCH || length == 0);
        return;
    }
    stream->size += length;
    stream->begun = true; /* an empty chunk counts */
    STATUS(is_too_long(stream) ? IMAGE_CACHE_ERROR_SIZE_MISMATCH : IMAGE_CACHE_OK, status);
}

static void end_tee(stream_t *stream, image_cache_status_t status)
{
    stream->ended = true;
    if (stream->owns && status == IMAGE_CACHE_OK)
        publish_stream(stream);
    release_image(stream);
}

static void read_tee(stream_t *stream, size_t length)
{
    size_t got = 77;
    trace("tee_read %td %zu\n", stream - streams, length);
    bool at_end = length > 0 && stream->size == stream->source_size;
    image_cache_status_t expected = !at_end && !stream->ended    ? IMAGE_CACHE_OK
                                    : stream->source_fails       ? IMAGE_CACHE_ERROR_SOURCE
                                    : !has_expected_size(stream) ? IMAGE_CACHE_ERROR_SIZE_MISMATCH
                                                                 : IMAGE_CACHE_OK;
    memset(buffer, 0, sizeof buffer);
    STATUS(expected, image_cache_tee_read(stream->tee, buffer, length, &got, &last_error));
    MUST(got <= length && got <= stream->source_size - stream->size);
    MUST(got > 0 || length == 0 || at_end || stream->ended);
    check_buffer(stream->seed, stream->size, got);
    stream->size += got;
    stream->begun = stream->begun || got > 0;
    if (is_too_long(stream))
        release_image(stream);
    if (at_end && !stream->ended)
        end_tee(stream, expected);
    MUST(!stream->owns || image_cache_tee_is_caching(stream->tee));
}

void write_or_read(void)
{
    stream_t *stream = pick();
    size_t length = next_length();
    if (stream->writer != NULL)
        write_chunk(stream, length);
    else if (stream->tee != NULL)
        read_tee(stream, length);
}
