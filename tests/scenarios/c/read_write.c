/* Operations on writers and readers, and shorthands that cache or read a whole image. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "scenario.h"

/* ---- writers ---- */

OPERATION(begin_write)
{
    HANDLE(0).any = scenario; /* not NULL, to test that a failure clears it */
    image_cache_status_t status = image_cache_begin_write(CACHE, TEXT(1).bytes, &HANDLE(0).writer, &call->error);
    if (!report_out(call, status, HANDLE(0).any == NULL))
        HANDLE(0).any = NULL;
}

OPERATION(writer_expect_size)
{
    report(call, image_cache_writer_expect_size(HANDLE(0).writer, NUMBER(1), &call->error));
}

OPERATION(writer_expect_digest)
{
    report(call, image_cache_writer_expect_digest(HANDLE(0).writer, TEXT(1).bytes, TEXT(2).bytes, &call->error));
}

OPERATION(write_chunk)
{
    report(call, image_cache_write_chunk(HANDLE(0).writer, TEXT(1).bytes, TEXT(1).length, &call->error));
}

OPERATION(write_chunks)
{
    const struct text *data = &TEXT(1);
    image_cache_status_t status = IMAGE_CACHE_OK;
    size_t length;
    for (size_t at = 0; at < data->length && status == IMAGE_CACHE_OK; at += length) {
        length = data->length - at < NUMBER(2) ? data->length - at : (size_t)NUMBER(2);
        if (length == 0) {
            bad_line(call, "pieces of 0 bytes");
            return;
        }
        status = image_cache_write_chunk(HANDLE(0).writer, data->bytes + at, length, &call->error);
    }
    report(call, status);
}

OPERATION(commit)
{
    image_cache_status_t status = image_cache_commit(HANDLE(0).writer, &call->error);
    HANDLE(0).any = NULL;
    report(call, status);
}

OPERATION(abort_write)
{
    image_cache_abort(HANDLE(0).writer, call->count > 1 ? TEXT(1).bytes : NULL);
    HANDLE(0).any = NULL;
    text_print(&call->result, "OK");
}

OPERATION(cache_image)
{
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status = image_cache_begin_write(CACHE, TEXT(0).bytes, &writer, &call->error);
    if (status == IMAGE_CACHE_OK) {
        status = image_cache_write_chunk(writer, TEXT(1).bytes, TEXT(1).length, &call->error);
        if (status == IMAGE_CACHE_OK)
            status = image_cache_commit(writer, &call->error);
        else
            image_cache_abort(writer, "a chunk failed");
    }
    report(call, status);
}

/* ---- readers ---- */

OPERATION(open_for_read)
{
    HANDLE(0).any = scenario;
    image_cache_status_t status = image_cache_open_for_read(CACHE, TEXT(1).bytes, &HANDLE(0).reader, &call->error);
    if (!report_out(call, status, HANDLE(0).any == NULL))
        HANDLE(0).any = NULL;
}

/* Reads once at `offset`, or at the reader's position if that is NULL, and appends the bytes to `data`. */
static image_cache_status_t read_once(struct call *call, image_cache_reader_t *reader, const uint64_t *offset,
                                      uint64_t capacity, struct text *data, size_t *length)
{
    char *buffer = allocate((size_t)capacity + 1);
    image_cache_status_t status;
    *length = SIZE_MAX;
    if (offset != NULL)
        status = image_cache_read_at(reader, *offset, buffer, (size_t)capacity, length, &call->error);
    else
        status = image_cache_read(reader, buffer, (size_t)capacity, length, &call->error);
    if (status == IMAGE_CACHE_OK)
        text_append(data, buffer, *length);
    free(buffer);
    return status;
}

/* Reads in pieces to the end or a failure. */
static image_cache_status_t read_to_end(struct call *call, image_cache_reader_t *reader, uint64_t piece,
                                        struct text *data)
{
    image_cache_status_t status;
    size_t length;
    do
        status = read_once(call, reader, NULL, piece, data, &length);
    while (status == IMAGE_CACHE_OK && length > 0);
    return status;
}

static void report_read(struct call *call, image_cache_status_t status, struct text *data, size_t length)
{
    if (report_out(call, status, length == 0))
        report_bytes(call, data);
    text_free(data);
}

OPERATION(read_piece)
{
    struct text data = {NULL, 0};
    size_t length;
    image_cache_status_t status = read_once(call, HANDLE(0).reader, NULL, NUMBER(1), &data, &length);
    report_read(call, status, &data, length);
}

OPERATION(read_at)
{
    struct text data = {NULL, 0};
    size_t length;
    image_cache_status_t status = read_once(call, HANDLE(0).reader, &NUMBER(1), NUMBER(2), &data, &length);
    report_read(call, status, &data, length);
}

OPERATION(read_all)
{
    struct text data = {NULL, 0};
    image_cache_status_t status = read_to_end(call, HANDLE(0).reader, NUMBER(1), &data);
    report_read(call, status, &data, 0);
}

OPERATION(reader_size) { text_print(&call->result, "OK %" PRIu64, image_cache_reader_size(HANDLE(0).reader)); }

OPERATION(reader_path)
{
    struct stat open_file, named;
    const char *path = image_cache_reader_path(HANDLE(0).reader);
    if (fstat(image_cache_reader_fd(HANDLE(0).reader), &open_file) != 0 || path == NULL || path[0] != '/')
        text_print(&call->result, "OK relative");
    else if (stat(path, &named) != 0)
        text_print(&call->result, "OK absent");
    else
        text_print(&call->result, "OK %s",
                   open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino ? "its_file" : "another_file");
}

OPERATION(reader_fd)
{
    int descriptor = image_cache_reader_fd(HANDLE(0).reader);
    int mode = fcntl(descriptor, F_GETFL), flags = fcntl(descriptor, F_GETFD);
    text_print(&call->result, "OK %s %s", mode >= 0 && (mode & O_ACCMODE) == O_RDONLY ? "read_only" : "writable",
               flags >= 0 && (flags & FD_CLOEXEC) != 0 ? "close_on_exec" : "inherited");
}

OPERATION(reader_close)
{
    image_cache_reader_close(HANDLE(0).reader);
    HANDLE(0).any = NULL;
    text_print(&call->result, "OK");
}

OPERATION(read_image)
{
    image_cache_reader_t *reader = NULL;
    struct text data = {NULL, 0};
    image_cache_status_t status = image_cache_open_for_read(CACHE, TEXT(0).bytes, &reader, &call->error);
    if (status == IMAGE_CACHE_OK) {
        status = read_to_end(call, reader, 65536, &data);
        image_cache_reader_close(reader);
    }
    report_read(call, status, &data, 0);
}

/* ---- every call that takes an image id ---- */

static int64_t no_bytes(void *user_data, void *buffer, size_t capacity)
{
    (void)user_data, (void)buffer, (void)capacity;
    return 0;
}

OPERATION(export_image)
{
    struct text data = {NULL, 0};
    int32_t how = 7;
    FILE *file = tmpfile();
    image_cache_status_t status =
        image_cache_export(CACHE, TEXT(0).bytes, fileno(file), IMAGE_CACHE_COPY_ANY, NULL, 0, &how, &call->error);
    char piece[4096];
    size_t length;
    while ((length = fread(piece, 1, sizeof piece, file)) > 0)
        text_append(&data, piece, length);
    fclose(file);
    report_read(call, status, &data, status == IMAGE_CACHE_OK ? 0 : (size_t)how + data.length);
}

OPERATION(import_image)
{
    int32_t how = 7;
    FILE *file = tmpfile();
    fwrite(TEXT(1).bytes, 1, TEXT(1).length, file);
    fflush(file);
    image_cache_status_t status =
        image_cache_import(CACHE, TEXT(0).bytes, fileno(file), IMAGE_CACHE_COPY_ANY, NULL, 0, &how, &call->error);
    fclose(file);
    report_out(call, status, how == 0);
}

OPERATION(write_hole) { report(call, image_cache_write_hole(HANDLE(0).writer, NUMBER(1), &call->error)); }

static int64_t no_range(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    (void)offset;
    return no_bytes(user_data, buffer, capacity);
}

OPERATION(every_call_with)
{
    bool value;
    uint64_t number;
    int32_t how;
    FILE *file = tmpfile();
    const char *image_id = TEXT(0).bytes;
    image_cache_error_t *error = &call->error;
    image_cache_writer_t *writer = NULL;
    image_cache_reader_t *reader = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_stream_t *stream = NULL;
    const struct {
        const char *name;
        image_cache_status_t status;
    } calls[] = {
        {"is_cached", image_cache_is_cached(CACHE, image_id, &value, error)},
        {"is_being_cached", image_cache_is_being_cached(CACHE, image_id, &value, error)},
        {"is_queued", image_cache_is_queued(CACHE, image_id, &value, error)},
        {"is_cacheable", image_cache_is_cacheable(CACHE, image_id, &value, error)},
        {"wait_cached", image_cache_wait_cached(CACHE, image_id, 0, &value, error)},
        {"get_image_size", image_cache_get_image_size(CACHE, image_id, &number, error)},
        {"get_hit_count", image_cache_get_hit_count(CACHE, image_id, &number, error)},
        {"queue_image", image_cache_queue_image(CACHE, image_id, &value, error)},
        {"delete_queued_image", image_cache_delete_queued_image(CACHE, image_id, error)},
        {"delete_cached_image", image_cache_delete_cached_image(CACHE, image_id, error)},
        {"delete_unused_image", image_cache_delete_unused_image(CACHE, image_id, &value, error)},
        {"pin", image_cache_pin(CACHE, image_id, "holder", 0, error)},
        {"unpin", image_cache_unpin(CACHE, image_id, "holder", error)},
        {"open_for_read", image_cache_open_for_read(CACHE, image_id, &reader, error)},
        {"export", image_cache_export(CACHE, image_id, fileno(file), IMAGE_CACHE_COPY_ANY, NULL, 0, &how, error)},
        {"begin_write", image_cache_begin_write(CACHE, image_id, &writer, error)},
        {"tee_open", image_cache_tee_open(CACHE, image_id, no_bytes, NULL, &tee, error)},
        {"stream_open", image_cache_stream_open(CACHE, image_id, no_range, NULL, &stream, error)},
    };
    size_t count = sizeof calls / sizeof calls[0], same = 0;

    image_cache_stream_close(stream);
    image_cache_tee_close(tee);
    image_cache_reader_close(reader);
    fclose(file);
    if (writer != NULL)
        image_cache_abort(writer, "every call");
    while (same < count && calls[same].status == calls[0].status)
        same++;
    text_print(&call->result, "%s", same == count ? status_name(calls[0].status) : "");
    for (size_t i = 0; i < count && same < count; i++)
        text_print(&call->result, "%s%s:%s", i > 0 ? " " : "", calls[i].name, status_name(calls[i].status));
    text_print(&call->detail, "%s", error->message);
}

const struct operation read_write_operations[] = {
    {"begin_write", "@Wt", begin_write},
    {"writer_expect_size", "wn", writer_expect_size},
    {"writer_expect_digest", "wtt", writer_expect_digest},
    {"write_chunk", "wd", write_chunk},
    {"write_chunks", "wdn", write_chunks},
    {"commit", "w", commit},
    {"abort", "w?t", abort_write},
    {"cache_image", "@td", cache_image},
    {"open_for_read", "@Rt", open_for_read},
    {"read", "rn", read_piece},
    {"read_at", "rnn", read_at},
    {"read_all", "rn", read_all},
    {"reader_size", "r", reader_size},
    {"reader_path", "r", reader_path},
    {"reader_fd", "r", reader_fd},
    {"reader_close", "r", reader_close},
    {"read_image", "@t", read_image},
    {"export", "@t", export_image},
    {"import", "@td", import_image},
    {"write_hole", "wn", write_hole},
    {"every_call_with", "@t", every_call_with},
    {NULL, NULL, NULL},
};
