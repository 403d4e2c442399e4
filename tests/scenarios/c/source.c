/* Scripted sources, and reads of the streams and tees over them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

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

/* `may_expect`: of a fetch, whose steps can be expectations. */
static bool add_step(const struct scenario *scenario, struct source *source, const struct text *step, bool may_expect)
{
    if (source->last != ENDS)
        return false; /* nothing can follow the last step */
    if (strcmp(step->bytes, "fail") == 0)
        source->last = FAILS;
    else if (strcmp(step->bytes, "more") == 0 && !may_expect)
        source->last = RETURNS_MORE;
    else if (strcmp(step->bytes, "reenter") == 0 && !may_expect)
        source->last = REENTERS;
    if (source->last != ENDS)
        return true;
    if (strncmp(step->bytes, "file:", 5) == 0)
        return add_file(scenario, source, step->bytes + 5);
    if (is_data_word(step))
        return source->count < MAX_ARGUMENTS && data_generate(&source->pieces[source->count++], step);
    uint64_t size;
    if (!may_expect || strchr(step->bytes, ':') == NULL || source->expectation_count == 4
        || (strncmp(step->bytes, "size:", 5) == 0 && !parse_number(step->bytes + 5, &size)))
        return false;
    text_append(&source->expectations[source->expectation_count++], step->bytes, step->length);
    return true;
}

struct source *source_new(const struct scenario *scenario, struct call *call, size_t first, const char *image_id)
{
    struct source *source = allocate(sizeof *source);
    if (image_id != NULL)
        text_print(&source->image_id, "%s", image_id);
    for (size_t i = first; i < call->count; i++) {
        if (!add_step(scenario, source, &TEXT(i), image_id != NULL)) {
            source_free(source);
            bad_line(call, "an invalid step, or too many steps");
            return NULL;
        }
    }
    return source;
}

static image_cache_status_t read_handle(struct handle *handle, void *buffer, size_t capacity, size_t *length,
                                        image_cache_error_t *error)
{
    return handle->kind == STREAM_HANDLE ? image_cache_stream_read(handle->is.stream, buffer, capacity, length, error)
                                         : image_cache_tee_read(handle->is.tee, buffer, capacity, length, error);
}

/* After the last piece. A read that succeeds within the source's own call ends the source, which no scenario expects. */
static int64_t last_step(const struct source *source, void *buffer, size_t capacity)
{
    size_t length;
    switch (source->last) {
    case FAILS: return -1;
    case RETURNS_MORE: return (int64_t)capacity + 1;
    case REENTERS:
        return read_handle(source->handle, buffer, capacity, &length, NULL) == IMAGE_CACHE_ERROR_INVALID_ARGUMENT ? -1
                                                                                                                  : 0;
    default: return 0;
    }
}

/* Returns a piece that is larger than `capacity` over several calls. No call returns parts of two pieces. */
int64_t source_read_at(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    struct source *source = user_data;
    uint64_t begin = 0;
    source->calls++;
    for (size_t i = 0; i < source->count; begin += source->pieces[i++].length) {
        const struct text *piece = &source->pieces[i];
        bool is_end = piece->length == 0 && offset == begin; /* an empty piece ends the source */
        if (!is_end && offset >= begin + piece->length)
            continue;
        size_t left = piece->length - (size_t)(offset - begin), length = left < capacity ? left : capacity;
        memcpy(buffer, piece->bytes + (offset - begin), length);
        source->bytes += length;
        return (int64_t)length;
    }
    return last_step(source, buffer, capacity);
}

int64_t source_read(void *user_data, void *buffer, size_t capacity)
{
    struct source *source = user_data;
    int64_t length = source_read_at(source, source->position, buffer, capacity);
    if (length > 0)
        source->position += (uint64_t)length;
    return length;
}

void report_one_read(struct call *call, struct handle *handle, uint64_t capacity)
{
    struct text data = {NULL, 0};
    size_t length = SIZE_MAX;
    char *buffer = allocate((size_t)capacity + 1);
    image_cache_status_t status = read_handle(handle, buffer, (size_t)capacity, &length, &call->error);
    if (report_out(call, status, length == 0)) {
        text_append(&data, buffer, length);
        report_bytes(call, &data);
    }
    free(buffer);
    text_free(&data);
}

/* Reads to the end or a failure, and prints the bytes in either case. */
void report_all_reads(struct call *call, struct handle *handle, uint64_t capacity)
{
    struct text data = {NULL, 0};
    image_cache_status_t status;
    size_t length;
    char *buffer = allocate((size_t)capacity + 1);
    do {
        length = SIZE_MAX;
        status = read_handle(handle, buffer, (size_t)capacity, &length, &call->error);
        if (status == IMAGE_CACHE_OK)
            text_append(&data, buffer, length);
    } while (status == IMAGE_CACHE_OK && length > 0);
    report_out(call, status, length == 0);
    text_append(&data, "", 0);
    report_bytes(call, &data);
    free(buffer);
    text_free(&data);
}
