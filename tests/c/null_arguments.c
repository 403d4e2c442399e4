/*
 * NULL for every pointer parameter of every function gives a status, never a crash. Out parameters become NULL, 0 or
 * false. The error struct is optional and is filled if given. Closing NULL does nothing.
 */
#include <image_cache.h>

#include "check.h"

#define REFUSED(call) STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, call)

/* The arguments that are not NULL. */
static image_cache_t *cache;
static image_cache_options_t *options;
static image_cache_writer_t *writer;
static image_cache_reader_t *reader;
static image_cache_tee_t *tee;
static image_cache_stream_t *stream;
static image_cache_list_t *list;
static text_source_t source = {"the source's bytes", 0, 5, 0}, range = {"the stream's bytes", 0, 5, 0};

/* Not NULL, 0 or false, to test that a call resets it. */
#define JUNK ((void *)&cache)

static image_cache_status_t fetch_nothing(void *user_data, const char *id, image_cache_writer_t *lent)
{
    (void)user_data, (void)id, (void)lent;
    return IMAGE_CACHE_OK;
}

static void set_up(void)
{
    cache = open_cache("cache");
    options = new_options();
    cache_image(cache, "cached", "bytes");
    OK(image_cache_begin_write(cache, "written", &writer, &check_error));
    OK(image_cache_open_for_read(cache, "cached", &reader, &check_error));
    OK(image_cache_tee_open(cache, "teed", read_text, &source, &tee, &check_error));
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &range, &stream, &check_error));
    OK(image_cache_list_cached(cache, &list, &check_error));
}

static void options_and_open(image_cache_error_t *error)
{
    image_cache_t *out = JUNK;
    REFUSED(image_cache_options_set_driver(NULL, IMAGE_CACHE_DRIVER_SQLITE, error));
    REFUSED(image_cache_options_set_max_size(NULL, 1, error));
    REFUSED(image_cache_options_set_limit_mode(NULL, IMAGE_CACHE_LIMIT_HARD, error));
    REFUSED(image_cache_options_set_min_free(NULL, 1, 1, error));
    REFUSED(image_cache_options_set_min_free_inodes(NULL, 1, 1, error));
    REFUSED(image_cache_options_set_max_pinned(NULL, 1, error));
    REFUSED(image_cache_options_set_stall_time(NULL, 1, error));
    REFUSED(image_cache_options_set_database(NULL, "name.db", error));
    REFUSED(image_cache_options_set_database(options, NULL, error));
    REFUSED(image_cache_options_set_durability(NULL, IMAGE_CACHE_DURABILITY_FULL, error));
    REFUSED(image_cache_options_set_change_driver(NULL, true, error));
    REFUSED(image_cache_options_set_streaming(NULL, true, error));
    REFUSED(image_cache_options_set_formats(NULL, "raw", error));
    OK(image_cache_options_set_formats(options, NULL, error)); /* every format */
    REFUSED(image_cache_options_set_inspector(NULL, NULL, NULL, error));
    OK(image_cache_options_set_inspector(options, NULL, NULL, error)); /* no inspector */
    REFUSED(image_cache_options_set_log(NULL, NULL, NULL, error));
    OK(image_cache_options_set_log(options, NULL, NULL, error)); /* switches logging off */
    REFUSED(image_cache_open(NULL, options, &out, error));
    CHECK(out == NULL);
    REFUSED(image_cache_open(in_directory("new"), options, NULL, error));
    CHECK(!exists(in_directory("new")));
}

static void queries(image_cache_error_t *error)
{
    image_cache_status_t (*const query[])(const image_cache_t *, const char *, bool *, image_cache_error_t *) = {
        image_cache_is_cached, image_cache_is_being_cached, image_cache_is_queued, image_cache_is_cacheable};
    for (size_t i = 0; i < sizeof query / sizeof *query; i++) {
        bool value = true;
        REFUSED(query[i](NULL, "cached", &value, error));
        CHECK(!value);
        value = true;
        REFUSED(query[i](cache, NULL, &value, error));
        CHECK(!value);
        REFUSED(query[i](cache, "cached", NULL, error));
    }
    image_cache_status_t (*const measure[])(const image_cache_t *, const char *, uint64_t *, image_cache_error_t *) = {
        image_cache_get_image_size, image_cache_get_hit_count};
    for (size_t i = 0; i < sizeof measure / sizeof *measure; i++) {
        uint64_t number = 7;
        REFUSED(measure[i](NULL, "cached", &number, error));
        CHECK(number == 0);
        number = 7;
        REFUSED(measure[i](cache, NULL, &number, error));
        CHECK(number == 0);
        REFUSED(measure[i](cache, "cached", NULL, error));
    }
    uint64_t number = 7;
    REFUSED(image_cache_get_cache_size(NULL, &number, error));
    CHECK(number == 0);
    REFUSED(image_cache_get_cache_size(cache, NULL, error));
    CHECK(image_cache_get_driver(NULL) == -1);
}

static void lists(image_cache_error_t *error)
{
    image_cache_status_t (*const make[])(const image_cache_t *, image_cache_list_t **, image_cache_error_t *) = {
        image_cache_list_cached, image_cache_list_queued, image_cache_list_incomplete, image_cache_list_invalid};
    for (size_t i = 0; i < sizeof make / sizeof *make; i++) {
        image_cache_list_t *out = JUNK;
        REFUSED(make[i](NULL, &out, error));
        CHECK(out == NULL);
        REFUSED(make[i](cache, NULL, error));
    }
    const image_cache_entry_t *entry = JUNK;
    CHECK(!image_cache_list_next(NULL, &entry) && entry == NULL);
    CHECK(!image_cache_list_next(list, NULL));
    CHECK(!image_cache_list_next(NULL, NULL));
}

static void writers(image_cache_error_t *error)
{
    image_cache_writer_t *out = JUNK;
    REFUSED(image_cache_begin_write(NULL, "new", &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_begin_write(cache, NULL, &out, error));
    CHECK(out == NULL);
    REFUSED(image_cache_begin_write(cache, "new", NULL, error));
    bool value = true;
    OK(image_cache_is_being_cached(cache, "new", &value, error));
    CHECK(!value);

    REFUSED(image_cache_writer_expect_size(NULL, 1, error));
    REFUSED(image_cache_writer_expect_digest(NULL, "md5", "d41d8cd98f00b204e9800998ecf8427e", error));
    REFUSED(image_cache_writer_expect_digest(writer, NULL, "d41d8cd98f00b204e9800998ecf8427e", error));
    REFUSED(image_cache_writer_expect_digest(writer, "md5", NULL, error));
    REFUSED(image_cache_write_chunk(NULL, "x", 1, error));
    REFUSED(image_cache_write_chunk(NULL, NULL, 0, error));
    OK(image_cache_write_chunk(writer, NULL, 0, error)); /* an empty buffer */
    REFUSED(image_cache_commit(NULL, error));
    image_cache_abort(NULL, "tested");
    image_cache_abort(NULL, NULL);
}

static void readers(image_cache_error_t *error)
{
    image_cache_reader_t *out = JUNK;
    REFUSED(image_cache_open_for_read(NULL, "cached", &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_open_for_read(cache, NULL, &out, error));
    CHECK(out == NULL);
    REFUSED(image_cache_open_for_read(cache, "cached", NULL, error));

    char buffer[8];
    size_t length = 7;
    REFUSED(image_cache_read(NULL, buffer, sizeof buffer, &length, error));
    CHECK(length == 0);
    length = 7;
    REFUSED(image_cache_read(reader, NULL, sizeof buffer, &length, error));
    CHECK(length == 0);
    REFUSED(image_cache_read(reader, buffer, sizeof buffer, NULL, error));
    length = 7;
    REFUSED(image_cache_read_at(NULL, 0, buffer, sizeof buffer, &length, error));
    CHECK(length == 0);
    length = 7;
    REFUSED(image_cache_read_at(reader, 0, NULL, sizeof buffer, &length, error));
    CHECK(length == 0);
    REFUSED(image_cache_read_at(reader, 0, buffer, sizeof buffer, NULL, error));
    length = 7;
    OK(image_cache_read(reader, NULL, 0, &length, error)); /* an empty buffer */
    CHECK(length == 0);
    length = 7;
    OK(image_cache_read_at(reader, 2, NULL, 0, &length, error));
    CHECK(length == 0);
    CHECK(image_cache_reader_size(NULL) == 0);
    CHECK(image_cache_reader_path(NULL) == NULL);
    CHECK(image_cache_reader_fd(NULL) == -1);
}

static void tees(image_cache_error_t *error)
{
    image_cache_tee_t *out = JUNK;
    REFUSED(image_cache_tee_open(NULL, "new", read_text, &source, &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_tee_open(cache, NULL, read_text, &source, &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_tee_open(cache, "new", NULL, &source, &out, error));
    CHECK(out == NULL);
    REFUSED(image_cache_tee_open(cache, "new", read_text, &source, NULL, error));

    REFUSED(image_cache_tee_expect_size(NULL, 1, error));
    REFUSED(image_cache_tee_refuse_empty(NULL, error));
    REFUSED(image_cache_tee_expect_digest(NULL, "md5", "d41d8cd98f00b204e9800998ecf8427e", error));
    image_cache_tee_t *other = NULL; /* a tee does not cache after a refused expectation */
    OK(image_cache_tee_open(cache, "other", read_text, &source, &other, error));
    REFUSED(image_cache_tee_expect_digest(other, NULL, "d41d8cd98f00b204e9800998ecf8427e", error));
    REFUSED(image_cache_tee_expect_digest(other, "md5", NULL, error));
    image_cache_tee_close(other);
    char buffer[8];
    size_t length = 7;
    REFUSED(image_cache_tee_read(NULL, buffer, sizeof buffer, &length, error));
    CHECK(length == 0);
    length = 7;
    REFUSED(image_cache_tee_read(tee, NULL, sizeof buffer, &length, error));
    CHECK(length == 0);
    REFUSED(image_cache_tee_read(tee, buffer, sizeof buffer, NULL, error));
    length = 7;
    OK(image_cache_tee_read(tee, NULL, 0, &length, error)); /* an empty buffer is not the end */
    CHECK(length == 0 && source.calls == 0);
    CHECK(!image_cache_tee_is_caching(NULL));
    CHECK(image_cache_tee_is_caching(tee));
}

static void streams(image_cache_error_t *error)
{
    image_cache_stream_t *out = JUNK;
    REFUSED(image_cache_stream_open(NULL, "new", read_text_at, &range, &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_stream_open(cache, NULL, read_text_at, &range, &out, error));
    CHECK(out == NULL);
    out = JUNK;
    REFUSED(image_cache_stream_open(cache, "new", NULL, &range, &out, error));
    CHECK(out == NULL);
    REFUSED(image_cache_stream_open(cache, "new", read_text_at, &range, NULL, error));

    REFUSED(image_cache_stream_expect_size(NULL, 1, error));
    REFUSED(image_cache_stream_expect_digest(NULL, "md5", "d41d8cd98f00b204e9800998ecf8427e", error));
    REFUSED(image_cache_stream_expect_digest(stream, NULL, "d41d8cd98f00b204e9800998ecf8427e", error));
    REFUSED(image_cache_stream_expect_digest(stream, "md5", NULL, error));
    REFUSED(image_cache_stream_set_timeout(NULL, 1, error));
    REFUSED(image_cache_stream_set_source_timeout(NULL, 1, error));
    char buffer[8];
    size_t length = 7;
    REFUSED(image_cache_stream_read(NULL, buffer, sizeof buffer, &length, error));
    CHECK(length == 0);
    length = 7;
    REFUSED(image_cache_stream_read(stream, NULL, sizeof buffer, &length, error));
    CHECK(length == 0);
    REFUSED(image_cache_stream_read(stream, buffer, sizeof buffer, NULL, error));
    length = 7;
    REFUSED(image_cache_stream_read_at(NULL, 0, buffer, sizeof buffer, &length, error));
    CHECK(length == 0);
    length = 7;
    REFUSED(image_cache_stream_read_at(stream, 0, NULL, sizeof buffer, &length, error));
    CHECK(length == 0);
    REFUSED(image_cache_stream_read_at(stream, 0, buffer, sizeof buffer, NULL, error));
    length = 7;
    OK(image_cache_stream_read(stream, NULL, 0, &length, error)); /* an empty buffer is not the end */
    CHECK(length == 0);
    length = 7;
    OK(image_cache_stream_read_at(stream, 2, NULL, 0, &length, error));
    CHECK(length == 0 && range.calls == 0);
    CHECK(image_cache_stream_role(NULL) == IMAGE_CACHE_STREAM_ALONE && image_cache_stream_available(NULL) == 0);
    CHECK(image_cache_stream_role(stream) == IMAGE_CACHE_STREAM_FOLLOWING && image_cache_stream_available(stream) == 0);

    bool value = true;
    REFUSED(image_cache_wait_cached(NULL, "cached", 0, &value, error));
    CHECK(!value);
    value = true;
    REFUSED(image_cache_wait_cached(cache, NULL, 0, &value, error));
    CHECK(!value);
    REFUSED(image_cache_wait_cached(cache, "cached", 0, NULL, error));
}

static void queue_and_housekeeping(image_cache_error_t *error)
{
    bool queued = true;
    REFUSED(image_cache_queue_image(NULL, "new", &queued, error));
    CHECK(!queued);
    queued = true;
    REFUSED(image_cache_queue_image(cache, NULL, &queued, error));
    CHECK(!queued);
    REFUSED(image_cache_queue_image(cache, "new", NULL, error));
    CHECK(!exists(in_directory("cache/queue/new")));
    REFUSED(image_cache_delete_queued_image(NULL, "new", error));
    REFUSED(image_cache_delete_queued_image(cache, NULL, error));
    REFUSED(image_cache_delete_cached_image(NULL, "cached", error));
    REFUSED(image_cache_delete_cached_image(cache, NULL, error));
    bool deleted = true;
    REFUSED(image_cache_delete_unused_image(NULL, "cached", &deleted, error));
    CHECK(!deleted);
    deleted = true;
    REFUSED(image_cache_delete_unused_image(cache, NULL, &deleted, error));
    CHECK(!deleted);
    REFUSED(image_cache_delete_unused_image(cache, "cached", NULL, error));

    image_cache_status_t (*const count[])(const image_cache_t *, uint64_t *, image_cache_error_t *) = {
        image_cache_delete_all_queued_images, image_cache_delete_all_cached_images};
    for (size_t i = 0; i < sizeof count / sizeof *count; i++) {
        uint64_t number = 7;
        REFUSED(count[i](NULL, &number, error));
        CHECK(number == 0);
        REFUSED(count[i](cache, NULL, error));
    }

    uint64_t one = 7, two = 7;
    REFUSED(image_cache_prefetch(NULL, fetch_nothing, NULL, &one, &two, error));
    CHECK(one == 0 && two == 0);
    one = two = 7;
    REFUSED(image_cache_prefetch(cache, NULL, NULL, &one, &two, error));
    CHECK(one == 0 && two == 0);
    one = two = 7;
    REFUSED(image_cache_prefetch(cache, fetch_nothing, NULL, NULL, &two, error));
    REFUSED(image_cache_prefetch(cache, fetch_nothing, NULL, &one, NULL, error));
    CHECK(one == 0 && two == 0);
    one = two = 7;
    REFUSED(image_cache_prune(NULL, &one, &two, error));
    CHECK(one == 0 && two == 0);
    one = two = 7;
    REFUSED(image_cache_prune(cache, NULL, &two, error));
    REFUSED(image_cache_prune(cache, &one, NULL, error));
    CHECK(one == 0 && two == 0);
    image_cache_status_t (*const evict[])(const image_cache_t *, uint64_t, uint64_t *, uint64_t *,
                                          image_cache_error_t *) = {image_cache_prune_to, image_cache_make_room};
    for (size_t i = 0; i < sizeof evict / sizeof *evict; i++) {
        one = two = 7;
        REFUSED(evict[i](NULL, 0, &one, &two, error));
        CHECK(one == 0 && two == 0);
        one = two = 7;
        REFUSED(evict[i](cache, 0, NULL, &two, error));
        REFUSED(evict[i](cache, 0, &one, NULL, error));
        CHECK(one == 0 && two == 0);
    }
    REFUSED(image_cache_set_max_size(NULL, 1, error));
    image_cache_usage_t usage;
    usage.limit = 7;
    REFUSED(image_cache_get_usage(NULL, &usage, sizeof usage, error));
    CHECK(usage.limit == 0);
    REFUSED(image_cache_get_usage(cache, NULL, sizeof usage, error));
    FILE *scratch = tmpfile();
    int file = fileno(scratch);
    int32_t how = 7;
    REFUSED(image_cache_export(NULL, "cached", file, 0, NULL, 0, &how, error));
    CHECK(how == 0);
    REFUSED(image_cache_export(cache, NULL, file, 0, NULL, 0, &how, error));
    REFUSED(image_cache_export(cache, "cached", file, 0, NULL, 0, NULL, error));
    REFUSED(image_cache_export(cache, "cached", -1, 0, NULL, 0, &how, error));
    REFUSED(image_cache_import(NULL, "imported", file, 0, NULL, 0, &how, error));
    REFUSED(image_cache_import(cache, NULL, file, 0, NULL, 0, &how, error));
    REFUSED(image_cache_import(cache, "imported", file, 0, NULL, 0, NULL, error));
    REFUSED(image_cache_import(cache, "imported", -1, 0, NULL, 0, &how, error));
    const image_cache_import_options_t unexpected = {.size = 1}, twice = {.expects_size = 2, .size = 1};
    REFUSED(image_cache_import(cache, "imported", file, 0, &unexpected, sizeof unexpected, &how, error));
    REFUSED(image_cache_import(cache, "imported", file, 0, &twice, sizeof twice, &how, error));
    REFUSED(image_cache_write_hole(NULL, 1, error));
    REFUSED(image_cache_options_set_sparse(NULL, true, error));
    OK(image_cache_export(cache, "cached", file, 0, NULL, 0, &how, error));
    CHECK(fclose(scratch) == 0 && how > 0);
    image_cache_verify_result_t verified = {.verified = 7, .stopped = 7};
    REFUSED(image_cache_verify(NULL, NULL, NULL, 0, &verified, sizeof verified, error));
    CHECK(verified.verified == 0 && verified.stopped == 0);
    REFUSED(image_cache_verify(cache, NULL, NULL, 0, NULL, sizeof verified, error));
    OK(image_cache_verify(cache, NULL, NULL, 0, &verified, sizeof verified, error));
    one = 7;
    REFUSED(image_cache_clean(NULL, -1, &one, error));
    image_cache_statistics_t statistics;
    memset(&statistics, 7, sizeof statistics);
    REFUSED(image_cache_get_statistics(NULL, &statistics, sizeof statistics, error));
    CHECK(statistics.images == 0 && statistics.found_damaged == 0);
    REFUSED(image_cache_get_statistics(cache, NULL, sizeof statistics, error));
    REFUSED(image_cache_pin(NULL, "cached", "holder", 1, error));
    REFUSED(image_cache_pin(cache, NULL, "holder", 1, error));
    REFUSED(image_cache_pin(cache, "cached", NULL, 1, error));
    REFUSED(image_cache_unpin(NULL, "cached", "holder", error));
    REFUSED(image_cache_unpin(cache, NULL, "holder", error));
    REFUSED(image_cache_unpin(cache, "cached", NULL, error));
    CHECK(one == 0);
    REFUSED(image_cache_clean(cache, -1, NULL, error));
    CHECK(is_cached(cache, "cached")); /* a refused call changes nothing */
}

static void all_functions(image_cache_error_t *error)
{
    options_and_open(error);
    queries(error);
    lists(error);
    writers(error);
    readers(error);
    tees(error);
    streams(error);
    queue_and_housekeeping(error);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    set_up();
    all_functions(&check_error); /* STATUS checks that it is filled */
    check_filled = false;
    all_functions(NULL);
    check_filled = true;

    image_cache_options_free(NULL);
    image_cache_close(NULL);
    image_cache_list_free(NULL);
    image_cache_reader_close(NULL);
    image_cache_tee_close(NULL);
    image_cache_stream_close(NULL);

    /* The handles still work. */
    const image_cache_entry_t *entry = NULL;
    CHECK(image_cache_list_next(list, &entry) && strcmp(entry->image_id, "cached") == 0);
    check_rest(reader, "bytes");
    char buffer[64];
    size_t length = 1;
    while (length > 0)
        OK(image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
    check_image(cache, "teed", "the source's bytes");
    for (length = 1; length > 0;)
        OK(image_cache_stream_read(stream, buffer, sizeof buffer, &length, &check_error));
    check_image(cache, "streamed", "the stream's bytes");
    OK(image_cache_write_chunk(writer, "whole", 5, &check_error));
    OK(image_cache_commit(writer, &check_error));
    check_image(cache, "written", "whole");

    image_cache_list_free(list);
    image_cache_reader_close(reader);
    image_cache_tee_close(tee);
    image_cache_stream_close(stream);
    image_cache_options_free(options);
    image_cache_close(cache);
    return 0;
}
