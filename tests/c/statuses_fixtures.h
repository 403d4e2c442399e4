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
static image_cache_list_t *list;
static text_source_t source;
static image_cache_error_t error;
static unsigned directories; /* each call has a new directory */
static bool value;
static uint64_t number, second_number;
static size_t length;
static char buffer[64];

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
    image_cache_list_free(list);
    image_cache_close(cache), image_cache_close(new_cache);
    image_cache_options_free(options);
    writer = new_writer = NULL, reader = new_reader = NULL, my_tee = new_tee = NULL, list = NULL,
    cache = new_cache = NULL;
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
static void open_reader(void) { OK(image_cache_open_for_read(cache, "cached", &reader, &check_error)); }
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

#endif
