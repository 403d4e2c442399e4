/* The state that a call needs: a cache with a cached and a queued image, and steps that prepare one call. */
#ifndef STATUSES_FIXTURES_H
#define STATUSES_FIXTURES_H

#include <image_cache.h>

#include "check.h"

#include <fcntl.h>

#define EMPTY_MD5 "d41d8cd98f00b204e9800998ecf8427e"

static image_cache_options_t *options;
static image_cache_t *cache, *new_cache;
static image_cache_writer_t *writer, *new_writer;
static image_cache_reader_t *reader, *new_reader;
static image_cache_tee_t *my_tee, *new_tee;
static image_cache_stream_t *my_stream, *new_stream;
static image_cache_list_t *list;
static text_source_t source;
static image_cache_error_t error;
static unsigned directories; /* each call has a new directory */
static bool value;
static uint64_t number, second_number;
static image_cache_usage_t usage;
static image_cache_verify_result_t verified;
static const image_cache_verify_options_t newer[2] = {{0},
                                                      {.skip_seconds = 1}}; /* a longer struct, with another field */
static const image_cache_export_options_t newer_export[2] = {{0}, {.sync = 1}};
static int32_t stop(void *user_data, uint64_t done, uint64_t total)
{
    (void)user_data, (void)done, (void)total;
    return 1;
}
static const image_cache_export_options_t stopping = {.progress = stop};
static const image_cache_import_options_t newer_import[2] = {{0}, {.size = 1}};
static const image_cache_import_options_t stopped = {.progress = stop};
static const image_cache_import_options_t of_7_bytes = {.expects_size = 1, .size = 7};
static const image_cache_import_options_t of_nothing = {.md5 = EMPTY_MD5};
static int32_t take_file(void *user_data, uint64_t done, uint64_t total);
static const image_cache_import_options_t losing = {.progress = take_file};
static int target = -1;
static int32_t done;
static size_t length;
static char buffer[64];
static image_cache_statistics_t statistics;

static const char *inside(const char *name) { return in_directory("cache-%u%s", directories, name); }

static void set_up(void)
{
    directories++;
    options = new_options();
    source = (text_source_t){"the source's bytes", 0, 64, 0};
    OK(image_cache_options_set_max_size(options, 0, &check_error));
    OK(image_cache_open(inside(""), options, &cache, &check_error));
    cache_image(cache, "cached", "bytes");
    OK(image_cache_queue_image(cache, "queued", &value, &check_error));
}

static void tear_down(void)
{
    image_cache_abort(writer, NULL), image_cache_abort(new_writer, NULL);
    image_cache_reader_close(reader), image_cache_reader_close(new_reader);
    image_cache_tee_close(my_tee), image_cache_tee_close(new_tee);
    image_cache_stream_close(my_stream), image_cache_stream_close(new_stream);
    image_cache_list_free(list);
    if (target >= 0)
        CHECK(close(target) == 0 && unlink(inside("-target")) == 0);
    target = -1;
    image_cache_close(cache), image_cache_close(new_cache);
    image_cache_options_free(options);
    writer = new_writer = NULL, reader = new_reader = NULL, my_tee = new_tee = NULL, list = NULL;
    my_stream = new_stream = NULL, cache = new_cache = NULL;
    check_remove(inside(""));
}

static void begin(void) { OK(image_cache_begin_write(cache, "written", &writer, &check_error)); }
static void chunk(void)
{
    begin();
    OK(image_cache_write_chunk(writer, "chunk", 5, &check_error));
}
static void expect_size(void)
{
    begin();
    OK(image_cache_writer_expect_size(writer, 7, &check_error));
}
static void expect_digest(void)
{
    begin();
    OK(image_cache_writer_expect_digest(writer, "md5", EMPTY_MD5, &check_error));
    OK(image_cache_write_chunk(writer, "not empty", 9, &check_error));
}
static void accept_iso_only(void)
{
    image_cache_close(cache);
    OK(image_cache_options_set_formats(options, "iso", &check_error));
    OK(image_cache_open(inside(""), options, &cache, &check_error));
}
static void inspect(void)
{
    accept_iso_only();
    chunk();
}
static void lose(void)
{
    chunk();
    CHECK(unlink(inside("/incomplete/written")) == 0);
}
static void race(void)
{
    chunk();
    make_file(inside("/written"), "another program's");
}
static void leave_invalid(void)
{
    chunk();
    image_cache_abort(writer, "tested");
    writer = NULL;
}
/* The other calls have a limit of 0, so that a prune evicts. */
static void have_room(void)
{
    image_cache_close(cache);
    OK(image_cache_options_set_max_size(options, 1000, &check_error));
    OK(image_cache_open(inside(""), options, &cache, &check_error));
}
static void pin(void)
{
    have_room();
    OK(image_cache_pin(cache, "cached", "holder", 60, &check_error));
}
/* A limit of 0 is a hard one's as well, so that a change of it is stored. */
static void have_hard_limit(void)
{
    image_cache_close(cache);
    OK(image_cache_options_set_limit_mode(options, IMAGE_CACHE_LIMIT_HARD, &check_error));
    OK(image_cache_open(inside(""), options, &cache, &check_error));
}
static void begin_within_limit(void)
{
    have_hard_limit();
    begin();
}
static void begin_with_room(void)
{
    OK(image_cache_options_set_max_size(options, 1 << 20, &check_error));
    begin_within_limit();
}
static void newer_statistics(void) { make_file(inside("/.image_cache/statistics"), "ic stats\0022345678"); }
static void open_reader(void) { OK(image_cache_open_for_read(cache, "cached", &reader, &check_error)); }
static void open_target(void)
{
    target = open(inside("-target"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(target >= 0);
}
static void open_source(void)
{
    open_target();
    CHECK(write(target, "source", 6) == 6);
}
static void begin_and_open(void)
{
    begin();
    open_source();
}
static void limited_source(void)
{
    have_hard_limit();
    open_source();
}
static void refused_source(void)
{
    accept_iso_only();
    open_source();
}
static void lost_source(void) { open_source(); }
static int32_t take_file(void *user_data, uint64_t done, uint64_t total)
{
    (void)user_data, (void)total;
    if (done == 0)
        CHECK(unlink(inside("/incomplete/new")) == 0);
    return 0;
}
static void shorten(void)
{
    open_reader();
    CHECK(truncate(inside("/cached"), 1) == 0);
}
static void open_tee(void) { OK(image_cache_tee_open(cache, "teed", read_text, &source, &my_tee, &check_error)); }
static void begin_tee(void)
{
    source.step = 3;
    open_tee();
    OK(image_cache_tee_read(my_tee, buffer, sizeof buffer, &length, &check_error));
}
static void tee_size(void)
{
    open_tee();
    OK(image_cache_tee_expect_size(my_tee, 1, &check_error));
}
static void tee_digest(void)
{
    open_tee();
    OK(image_cache_tee_expect_digest(my_tee, "md5", EMPTY_MD5, &check_error));
}
static int64_t fail_to_read(void *user_data, void *data, size_t capacity)
{
    (void)user_data, (void)data, (void)capacity;
    return -1;
}
static void bad_tee(void) { OK(image_cache_tee_open(cache, "teed", fail_to_read, NULL, &my_tee, &check_error)); }
static void open_stream(void)
{
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &source, &my_stream, &check_error));
}
static void begin_stream(void)
{
    source.step = 3;
    open_stream();
    OK(image_cache_stream_read(my_stream, buffer, sizeof buffer, &length, &check_error));
}
static void leave_stream(void)
{
    begin_stream();
    image_cache_stream_close(my_stream);
    my_stream = NULL;
}
static void stream_size(void)
{
    open_stream();
    OK(image_cache_stream_expect_size(my_stream, 100, &check_error));
}
static void stream_digest(void)
{
    open_stream();
    OK(image_cache_stream_expect_digest(my_stream, "md5", EMPTY_MD5, &check_error));
}
static int64_t fail_to_read_at(void *user_data, uint64_t offset, void *data, size_t capacity)
{
    (void)user_data, (void)offset, (void)data, (void)capacity;
    return -1;
}
static void bad_stream(void)
{
    OK(image_cache_stream_open(cache, "streamed", fail_to_read_at, NULL, &my_stream, &check_error));
}
static void impatient_stream(void)
{
    open_stream();
    OK(image_cache_stream_set_timeout(my_stream, 10, &check_error));
}
static void follow_writer(void)
{
    chunk();
    OK(image_cache_stream_open(cache, "written", read_text_at, &source, &my_stream, &check_error));
    OK(image_cache_stream_set_timeout(my_stream, 10, &check_error));
}
static void newer_index(void)
{
    if (check_driver != IMAGE_CACHE_DRIVER_SQLITE)
        return;
    image_cache_close(cache), cache = NULL;
    int fd = open(inside("/cache.db"), O_RDWR);
    CHECK(fd >= 0 && lseek(fd, 60, SEEK_SET) == 60); /* SQLite's user_version */
    CHECK(write(fd, "\x7f\0\0\0", 4) == 4 && close(fd) == 0);
}
static void add_a_file(void) { make_file(inside("/added"), "another program's"); }
static void a_file(void) { make_file(inside("/file"), "not a directory"); }
static void nothing(void) {}

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *lent)
{
    (void)user_data;
    return image_cache_write_chunk(lent, id, strlen(id), NULL);
}

static image_cache_status_t commit(image_cache_writer_t **ended)
{
    image_cache_status_t status = image_cache_commit(*ended, &error);
    *ended = NULL;
    return status;
}

static image_cache_status_t read_tee(image_cache_tee_t *read) /* to its end */
{
    image_cache_status_t status;
    do
        status = image_cache_tee_read(read, buffer, sizeof buffer, &length, &error);
    while (status == IMAGE_CACHE_OK && length > 0);
    return status;
}

static image_cache_status_t read_stream(image_cache_stream_t *read) /* to its end */
{
    image_cache_status_t status;
    do
        status = image_cache_stream_read(read, buffer, sizeof buffer, &length, &error);
    while (status == IMAGE_CACHE_OK && length > 0);
    return status;
}

/* The source of another stream of the image: while it is called, no other source is. */
static image_cache_status_t status_within;
static int64_t read_within(void *user_data, uint64_t offset, void *data, size_t capacity)
{
    (void)user_data, (void)offset, (void)data, (void)capacity;
    status_within = image_cache_stream_read_at(my_stream, 0, buffer, sizeof buffer, &length, &error);
    return -1;
}
static image_cache_status_t read_at_within(void)
{
    char one;
    size_t ignored;
    status_within = image_cache_stream_open(cache, "streamed", read_within, NULL, &new_stream, &error);
    if (status_within == IMAGE_CACHE_OK)
        (void)image_cache_stream_read(new_stream, &one, 1, &ignored, NULL);
    return status_within;
}

#endif
