/* Streams over scripted sources, and the wait for an image. */
#include <inttypes.h>
#include <stdlib.h>

#include "source.h"

OPERATION(stream_open)
{
    struct handle *handle = call->arguments[0].handle;
    handle->source = source_new(scenario, call, 2, NULL);
    if (handle->source == NULL)
        return;
    handle->source->handle = handle;
    handle->is.any = scenario; /* not NULL, to test that a failure clears it */
    image_cache_status_t status =
        image_cache_stream_open(CACHE, TEXT(1).bytes, source_read_at, handle->source, &handle->is.stream, &call->error);
    if (!report_out(call, status, handle->is.any == NULL))
        handle->is.any = NULL;
}

OPERATION(stream_expect_size)
{
    report(call, image_cache_stream_expect_size(HANDLE(0).stream, NUMBER(1), &call->error));
}

OPERATION(stream_expect_digest)
{
    report(call, image_cache_stream_expect_digest(HANDLE(0).stream, TEXT(1).bytes, TEXT(2).bytes, &call->error));
}

OPERATION(stream_set_timeout)
{
    report(call, image_cache_stream_set_timeout(HANDLE(0).stream, NUMBER(1), &call->error));
}

OPERATION(stream_set_source_timeout)
{
    report(call, image_cache_stream_set_source_timeout(HANDLE(0).stream, NUMBER(1), &call->error));
}

OPERATION(stream_read) { report_one_read(call, call->arguments[0].handle, NUMBER(1)); }

OPERATION(stream_read_all) { report_all_reads(call, call->arguments[0].handle, NUMBER(1)); }

OPERATION(stream_read_at)
{
    struct text data = {NULL, 0};
    size_t length = SIZE_MAX, capacity = (size_t)NUMBER(2);
    char *buffer = allocate(capacity + 1);
    image_cache_status_t status =
        image_cache_stream_read_at(HANDLE(0).stream, NUMBER(1), buffer, capacity, &length, &call->error);
    if (report_out(call, status, length == 0)) {
        text_append(&data, buffer, length);
        report_bytes(call, &data);
    }
    free(buffer);
    text_free(&data);
}

OPERATION(stream_role)
{
    int32_t role = image_cache_stream_role(HANDLE(0).stream);
    text_print(&call->result, "OK %s",
               role == IMAGE_CACHE_STREAM_CACHED      ? "cached"
               : role == IMAGE_CACHE_STREAM_FETCHING  ? "fetching"
               : role == IMAGE_CACHE_STREAM_FOLLOWING ? "following"
               : role == IMAGE_CACHE_STREAM_ALONE     ? "alone"
                                                      : "?");
}

OPERATION(stream_available)
{
    text_print(&call->result, "OK %" PRIu64, image_cache_stream_available(HANDLE(0).stream));
}

OPERATION(stream_source_calls) { text_print(&call->result, "OK %" PRIu64, call->arguments[0].handle->source->calls); }

OPERATION(stream_source_bytes) { text_print(&call->result, "OK %" PRIu64, call->arguments[0].handle->source->bytes); }

OPERATION(stream_close)
{
    image_cache_stream_close(HANDLE(0).stream);
    HANDLE(0).any = NULL;
    text_print(&call->result, "OK");
}

OPERATION(wait_cached)
{
    bool cached = true;
    image_cache_status_t status = image_cache_wait_cached(CACHE, TEXT(0).bytes, NUMBER(1), &cached, &call->error);
    if (report_out(call, status, !cached))
        text_print(&call->result, cached ? " true" : " false");
}

const struct operation stream_operations[] = {
    {"stream_open", "@Mt*", stream_open},
    {"stream_expect_size", "mn", stream_expect_size},
    {"stream_expect_digest", "mtt", stream_expect_digest},
    {"stream_set_timeout", "mn", stream_set_timeout},
    {"stream_set_source_timeout", "mn", stream_set_source_timeout},
    {"stream_read", "mn", stream_read},
    {"stream_read_all", "mn", stream_read_all},
    {"stream_read_at", "mnn", stream_read_at},
    {"stream_role", "m", stream_role},
    {"stream_available", "m", stream_available},
    {"stream_source_calls", "m", stream_source_calls},
    {"stream_source_bytes", "m", stream_source_bytes},
    {"stream_close", "m", stream_close},
    {"wait_cached", "@tn", wait_cached},
    {NULL, NULL, NULL},
};
