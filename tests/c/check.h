/*
 * Assertions and a scratch directory for the C tests: one header, no library.
 *
 * A test is `int main(int argc, char **argv) { check_start(argc, argv); ... return 0; }`. Its argument is the driver's
 * name (sqlite or xattr), and it runs in a writable directory. A failed check prints file, line, expression and the
 * library's message, and exits with 1. A test that cannot run here exits with CHECK_SKIPPED.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHECK_SKIPPED = 77 };

static int32_t check_driver;               /* IMAGE_CACHE_DRIVER_*, from the command line */
static char check_directory[PATH_MAX / 2]; /* this test's own directory, removed at exit */
static pid_t check_owner;
static __thread image_cache_error_t check_error; /* the error of the last STATUS or OK call */
static bool check_filled = true;                 /* false: the calls get NULL instead of &check_error */
static FILE *check_output;                       /* the output of failed checks, or NULL for stderr */

/* ---- Assertions -------------------------------------------------------------------------------------------------- */

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            check_failed(__FILE__, __LINE__, #condition, NULL);                                                        \
    } while (0)

/* The call gets &check_error and must return `expected`. A failure must fill in a message. */
#define STATUS(expected, call)                                                                                         \
    do {                                                                                                               \
        memset(&check_error, 0x55, sizeof check_error);                                                                \
        check_status(__FILE__, __LINE__, #call, (expected), (call));                                                   \
    } while (0)

#define OK(call) STATUS(IMAGE_CACHE_OK, call)

static inline void check_failed(const char *file, int line, const char *expression, const char *detail)
{
    FILE *output = check_output != NULL ? check_output : stderr;
    fprintf(output, "%s:%d: failed: %s\n", file, line, expression);
    if (detail != NULL)
        fprintf(output, "    %s\n", detail);
    exit(1);
}

static inline void check_status(const char *file, int line, const char *call, image_cache_status_t expected,
                                image_cache_status_t status)
{
    char detail[700];
    if (status < 0 && check_filled) {
        bool terminated = memchr(check_error.message, '\0', sizeof check_error.message) != NULL;
        if (!terminated || check_error.message[0] == '\0' || check_error.status != status)
            check_failed(file, line, call, "the error struct was not filled, or not completely");
    }
    if (status == expected)
        return;
    snprintf(detail, sizeof detail, "expected %s, got %s: %s", image_cache_status_name(expected),
             image_cache_status_name(status), status < 0 && check_error.status == status ? check_error.message : "-");
    check_failed(file, line, call, detail);
}

static inline void check_skip(const char *why)
{
    printf("SKIPPED: %s\n", why);
    exit(CHECK_SKIPPED);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static inline int check_remove_one(const char *path, const struct stat *s, int type, struct FTW *walk)
{
    (void)s, (void)type, (void)walk;
    return remove(path);
}

static inline void check_remove(const char *path) { nftw(path, check_remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static inline void check_cleanup(void)
{
    if (getpid() == check_owner) /* not from a forked child */
        check_remove(check_directory);
}

/* A path in the test's own directory, from a printf format. Valid for the next 7 calls. */
static inline const char *in_directory(const char *format, ...)
{
    static __thread char paths[8][PATH_MAX];
    static __thread unsigned next;
    char *path = paths[next++ % 8];
    int length = snprintf(path, PATH_MAX, "%s/", check_directory);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, (size_t)(PATH_MAX - length), format, arguments);
    va_end(arguments);
    return path;
}

static inline bool exists(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

static inline void make_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    CHECK(fputs(content, file) >= 0);
    CHECK(fclose(file) == 0);
}

/* ---- The cache --------------------------------------------------------------------------------------------------- */

static inline image_cache_options_t *new_options(void)
{
    image_cache_options_t *options = image_cache_options_new();
    CHECK(options != NULL);
    OK(image_cache_options_set_driver(options, check_driver, &check_error));
    OK(image_cache_options_set_durability(options, IMAGE_CACHE_DURABILITY_NONE, &check_error)); /* faster */
    return options;
}

/* Opens a cache in the subdirectory `name`. */
static inline image_cache_t *open_cache(const char *name)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    OK(image_cache_open(in_directory("%s", name), options, &cache, &check_error));
    CHECK(cache != NULL);
    image_cache_options_free(options);
    return cache;
}

static inline void cache_image(image_cache_t *cache, const char *id, const char *bytes)
{
    image_cache_writer_t *writer = NULL;
    OK(image_cache_begin_write(cache, id, &writer, &check_error));
    OK(image_cache_write_chunk(writer, bytes, strlen(bytes), &check_error));
    OK(image_cache_commit(writer, &check_error));
}

static inline bool is_cached(image_cache_t *cache, const char *id)
{
    bool cached = false;
    OK(image_cache_is_cached(cache, id, &cached, &check_error));
    return cached;
}

static inline uint64_t hits_of(image_cache_t *cache, const char *id)
{
    uint64_t hits = UINT64_MAX;
    OK(image_cache_get_hit_count(cache, id, &hits, &check_error));
    return hits;
}

/* Reads the rest of a reader and compares it with text. */
static inline void check_rest(image_cache_reader_t *reader, const char *text)
{
    char buffer[4096];
    size_t length = 0, total = 0;
    do {
        OK(image_cache_read(reader, buffer + total, sizeof buffer - total, &length, &check_error));
        total += length;
    } while (length > 0);
    CHECK(total == strlen(text) && memcmp(buffer, text, total) == 0);
}

static inline void check_image(image_cache_t *cache, const char *id, const char *text)
{
    image_cache_reader_t *reader = NULL;
    OK(image_cache_open_for_read(cache, id, &reader, &check_error));
    check_rest(reader, text);
    image_cache_reader_close(reader);
}

/* A tee's source: text that is returned `step` bytes at a time. */
typedef struct {
    const char *text;
    size_t at, step;
    int calls;
} text_source_t;

static inline int64_t read_text(void *user_data, void *buffer, size_t capacity)
{
    text_source_t *source = user_data;
    size_t length = strlen(source->text) - source->at;
    length = length < source->step ? length : source->step;
    length = length < capacity ? length : capacity;
    memcpy(buffer, source->text + source->at, length);
    source->at += length;
    source->calls++;
    return (int64_t)length;
}

/* A stream's source: the same text, at any offset, `step` bytes at a time. */
static inline int64_t read_text_at(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    text_source_t *source = user_data;
    source->at = offset < strlen(source->text) ? (size_t)offset : strlen(source->text);
    return read_text(user_data, buffer, capacity);
}

/* ---- Start ------------------------------------------------------------------------------------------------------- */

static inline void check_start(int argc, char **argv)
{
    if (argc < 2 || (strcmp(argv[1], "sqlite") != 0 && strcmp(argv[1], "xattr") != 0)) {
        fprintf(stderr, "usage: %s sqlite|xattr\n", argv[0]);
        exit(2);
    }
    check_driver = strcmp(argv[1], "xattr") == 0 ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE;
    char here[PATH_MAX / 2 - 32];
    CHECK(getcwd(here, sizeof here) != NULL);
    snprintf(check_directory, sizeof check_directory, "%s/check-XXXXXX", here);
    CHECK(mkdtemp(check_directory) != NULL);
    check_owner = getpid();
    atexit(check_cleanup);

    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    image_cache_status_t status = image_cache_open(in_directory("probe"), options, &cache, &check_error);
    image_cache_close(cache);
    image_cache_options_free(options);
    if (status == IMAGE_CACHE_ERROR_UNSUPPORTED && check_driver == IMAGE_CACHE_DRIVER_XATTR)
        check_skip("the file system of this directory has no user extended attributes");
}

#endif
