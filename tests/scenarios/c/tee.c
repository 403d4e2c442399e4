/* Tees over scripted sources, and prefetch with scripted fetches. */
#include <inttypes.h>
#include <string.h>

#include "source.h"

OPERATION(tee_open)
{
    struct handle *handle = call->arguments[0].handle;
    handle->source = source_new(scenario, call, 2, NULL);
    if (handle->source == NULL)
        return;
    handle->source->handle = handle;
    handle->is.any = scenario; /* not NULL, to test that a failure clears it */
    image_cache_status_t status =
        image_cache_tee_open(CACHE, TEXT(1).bytes, source_read, handle->source, &handle->is.tee, &call->error);
    if (!report_out(call, status, handle->is.any == NULL))
        handle->is.any = NULL;
}

OPERATION(tee_expect_size) { report(call, image_cache_tee_expect_size(HANDLE(0).tee, NUMBER(1), &call->error)); }

OPERATION(tee_expect_digest)
{
    report(call, image_cache_tee_expect_digest(HANDLE(0).tee, TEXT(1).bytes, TEXT(2).bytes, &call->error));
}

OPERATION(tee_read) { report_one_read(call, call->arguments[0].handle, NUMBER(1)); }

OPERATION(tee_read_all) { report_all_reads(call, call->arguments[0].handle, NUMBER(1)); }

OPERATION(tee_is_caching)
{
    text_print(&call->result, image_cache_tee_is_caching(HANDLE(0).tee) ? "OK true" : "OK false");
}

OPERATION(tee_source_calls) { text_print(&call->result, "OK %" PRIu64, call->arguments[0].handle->source->calls); }

OPERATION(tee_close)
{
    image_cache_tee_close(HANDLE(0).tee);
    HANDLE(0).any = NULL;
    text_print(&call->result, "OK");
}

/* ---- prefetch ---- */

OPERATION(fetch)
{
    struct source *source = source_new(scenario, call, 1, TEXT(0).bytes);
    if (source == NULL)
        return;
    for (size_t i = 0; i < scenario->fetch_count; i++) {
        if (strcmp(scenario->fetches[i]->image_id.bytes, TEXT(0).bytes) == 0) {
            source_free(scenario->fetches[i]);
            scenario->fetches[i] = source;
            text_print(&call->result, "OK");
            return;
        }
    }
    if (scenario->fetch_count == MAX_FETCHES) {
        source_free(source);
        bad_line(call, "too many fetches");
        return;
    }
    scenario->fetches[scenario->fetch_count++] = source;
    text_print(&call->result, "OK");
}

struct prefetching {
    const struct scenario *scenario;
    struct text called; /* the images in the order of the callback's calls */
};

/* Sets an expectation on the writer: "size:1024" or "ALGORITHM:HEX". */
static image_cache_status_t expect(image_cache_writer_t *writer, const struct text *expectation)
{
    struct text algorithm = {NULL, 0};
    const char *value = strchr(expectation->bytes, ':') + 1;
    image_cache_status_t status = IMAGE_CACHE_ERROR_INVALID_ARGUMENT;
    uint64_t size;
    text_append(&algorithm, expectation->bytes, (size_t)(value - 1 - expectation->bytes));
    if (strcmp(algorithm.bytes, "size") != 0)
        status = image_cache_writer_expect_digest(writer, algorithm.bytes, value, NULL);
    else if (parse_number(value, &size))
        status = image_cache_writer_expect_size(writer, size, NULL);
    text_free(&algorithm);
    return status;
}

static image_cache_status_t write_fetch(const struct source *source, image_cache_writer_t *writer)
{
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t i = 0; i < source->expectation_count && status == IMAGE_CACHE_OK; i++)
        status = expect(writer, &source->expectations[i]);
    for (size_t i = 0; i < source->count && status == IMAGE_CACHE_OK; i++)
        status = image_cache_write_chunk(writer, source->pieces[i].bytes, source->pieces[i].length, NULL);
    return status == IMAGE_CACHE_OK && source->last == FAILS ? IMAGE_CACHE_ERROR_SOURCE : status;
}

static image_cache_status_t fetch_one(void *user_data, const char *image_id, image_cache_writer_t *writer)
{
    struct prefetching *prefetching = user_data;
    const struct scenario *scenario = prefetching->scenario;
    text_print(&prefetching->called, " ");
    text_escape(&prefetching->called, image_id, strlen(image_id));
    for (size_t i = 0; i < scenario->fetch_count; i++)
        if (strcmp(scenario->fetches[i]->image_id.bytes, image_id) == 0)
            return write_fetch(scenario->fetches[i], writer);
    return IMAGE_CACHE_ERROR_SOURCE; /* no fetch is scripted */
}

OPERATION(prefetch)
{
    struct prefetching prefetching = {scenario, {NULL, 0}};
    uint64_t fetched = UINT64_MAX, failed = UINT64_MAX;
    image_cache_status_t status = image_cache_prefetch(CACHE, fetch_one, &prefetching, &fetched, &failed, &call->error);
    if (report_out(call, status, fetched == 0 && failed == 0))
        text_print(&call->result, " %" PRIu64 " fetched %" PRIu64 " failed called%s", fetched, failed,
                   prefetching.called.length > 0 ? prefetching.called.bytes : " none");
    text_free(&prefetching.called);
}

const struct operation tee_operations[] = {
    {"tee_open", "@Et*", tee_open},
    {"tee_expect_size", "en", tee_expect_size},
    {"tee_expect_digest", "ett", tee_expect_digest},
    {"tee_read", "en", tee_read},
    {"tee_read_all", "en", tee_read_all},
    {"tee_is_caching", "e", tee_is_caching},
    {"tee_source_calls", "e", tee_source_calls},
    {"tee_close", "e", tee_close},
    {"fetch", "t*", fetch},
    {"prefetch", "@", prefetch},
    {NULL, NULL, NULL},
};
