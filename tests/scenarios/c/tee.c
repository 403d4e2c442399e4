/* Tees over scripted sources, and prefetch with scripted fetches. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

/* The pieces that a source returns; of a fetch also its image and the expectations on its writer. */
struct source {
    struct text image_id;
    struct text pieces[MAX_ARGUMENTS];
    size_t count;
    struct text expectations[4]; /* "size:1024", "md5:..." */
    size_t expectation_count;
    bool fails;   /* after the last piece */
    size_t piece; /* the current piece and the position in it */
    size_t at;
    uint64_t calls;
};

void source_free(struct source *source)
{
    if (source == NULL)
        return;
    text_free(&source->image_id);
    for (size_t i = 0; i < source->count; i++)
        text_free(&source->pieces[i]);
    for (size_t i = 0; i < source->expectation_count; i++)
        text_free(&source->expectations[i]);
    free(source);
}

/* file:PATH:PIECE splits a file into pieces of PIECE bytes. */
static bool add_file(const struct scenario *scenario, struct source *source, const char *parameters)
{
    const char *colon = strrchr(parameters, ':');
    struct text path = {NULL, 0};
    uint64_t size;
    FILE *file = NULL;
    bool whole = false;

    if (colon != NULL && parse_number(colon + 1, &size) && size > 0 && size <= 1 << 20) {
        text_print(&path, "%s/cache/%.*s", scenario->root, (int)(colon - parameters), parameters);
        file = fopen(path.bytes, "rbe");
    }
    if (file != NULL) {
        char *buffer = allocate((size_t)size);
        size_t length = 1;
        while (source->count < MAX_ARGUMENTS && (length = fread(buffer, 1, (size_t)size, file)) > 0)
            text_append(&source->pieces[source->count++], buffer, length);
        whole = length == 0;
        free(buffer);
        fclose(file);
    }
    text_free(&path);
    return whole;
}

static bool add_step(const struct scenario *scenario, struct source *source, const struct text *step)
{
    if (source->fails)
        return false; /* nothing can follow a failure */
    if (strcmp(step->bytes, "fail") == 0) {
        source->fails = true;
        return true;
    }
    if (strncmp(step->bytes, "file:", 5) == 0)
        return add_file(scenario, source, step->bytes + 5);
    if (is_data_word(step))
        return source->count < MAX_ARGUMENTS && data_generate(&source->pieces[source->count++], step);
    uint64_t size;
    if (source->image_id.bytes == NULL || strchr(step->bytes, ':') == NULL || source->expectation_count == 4
        || (strncmp(step->bytes, "size:", 5) == 0 && !parse_number(step->bytes + 5, &size)))
        return false;
    text_append(&source->expectations[source->expectation_count++], step->bytes, step->length);
    return true;
}

/* Makes a source from the words from `first` on. Reports a bad line and returns NULL if one is wrong. */
static struct source *source_new(const struct scenario *scenario, struct call *call, size_t first, const char *image_id)
{
    struct source *source = allocate(sizeof *source);
    if (image_id != NULL)
        text_print(&source->image_id, "%s", image_id);
    for (size_t i = first; i < call->count; i++) {
        if (!add_step(scenario, source, &TEXT(i))) {
            source_free(source);
            bad_line(call, "an invalid step, or too many steps");
            return NULL;
        }
    }
    return source;
}

/* ---- tees ---- */

/* Returns a piece that is larger than `capacity` over several calls. No call returns parts of two pieces. */
static int64_t next_piece(void *user_data, void *buffer, size_t capacity)
{
    struct source *source = user_data;
    source->calls++;
    if (source->piece == source->count)
        return source->fails ? -1 : 0;

    const struct text *piece = &source->pieces[source->piece];
    size_t left = piece->length - source->at, length = left < capacity ? left : capacity;
    memcpy(buffer, piece->bytes + source->at, length);
    source->at += length;
    if (source->at == piece->length) {
        source->piece++;
        source->at = 0;
    }
    return (int64_t)length;
}

OPERATION(tee_open)
{
    struct handle *handle = call->arguments[0].handle;
    handle->source = source_new(scenario, call, 2, NULL);
    if (handle->source == NULL)
        return;
    handle->is.any = scenario; /* not NULL, to test that a failure clears it */
    image_cache_status_t status =
        image_cache_tee_open(CACHE, TEXT(1).bytes, next_piece, handle->source, &handle->is.tee, &call->error);
    if (!report_out(call, status, handle->is.any == NULL))
        handle->is.any = NULL;
}

OPERATION(tee_expect_size) { report(call, image_cache_tee_expect_size(HANDLE(0).tee, NUMBER(1), &call->error)); }

OPERATION(tee_expect_digest)
{
    report(call, image_cache_tee_expect_digest(HANDLE(0).tee, TEXT(1).bytes, TEXT(2).bytes, &call->error));
}

OPERATION(tee_read)
{
    struct text data = {NULL, 0};
    size_t length = SIZE_MAX;
    char *buffer = allocate((size_t)NUMBER(1) + 1);
    image_cache_status_t status = image_cache_tee_read(HANDLE(0).tee, buffer, (size_t)NUMBER(1), &length, &call->error);
    if (report_out(call, status, length == 0)) {
        text_append(&data, buffer, length);
        report_bytes(call, &data);
    }
    free(buffer);
    text_free(&data);
}

/* Reads to the end or a failure, and prints the bytes in either case. */
OPERATION(tee_read_all)
{
    struct text data = {NULL, 0};
    image_cache_status_t status;
    size_t length;
    char *buffer = allocate((size_t)NUMBER(1) + 1);
    do {
        length = SIZE_MAX;
        status = image_cache_tee_read(HANDLE(0).tee, buffer, (size_t)NUMBER(1), &length, &call->error);
        if (status == IMAGE_CACHE_OK)
            text_append(&data, buffer, length);
    } while (status == IMAGE_CACHE_OK && length > 0);
    report_out(call, status, length == 0);
    text_append(&data, "", 0);
    report_bytes(call, &data);
    free(buffer);
    text_free(&data);
}

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
    return status == IMAGE_CACHE_OK && source->fails ? IMAGE_CACHE_ERROR_SOURCE : status;
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
