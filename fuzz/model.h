/*
 * What the fuzzer's files share: the model of what the library must have done, the input, the checks, and the calls. The
 * fuzzer itself is in calls.c.
 */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include <image_cache.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STREAMS = 5, READERS = 4, LISTS = 2, IMAGES = 6, LONGEST = 20000, NOBODY = -1 };

/* ---- What the model knows: model.c ------------------------------------------------------------------------------- */

typedef struct {
    const char *id;
    bool cached, queued;
    unsigned seed; /* of the bytes */
    unsigned life; /* how often an image of that name came or went */
    uint64_t size, hits, use, queued_at;
    bool counted; /* whether hits is exact: a reader of an older image of that name makes it a guess */
    int owner;    /* the stream that writes it, or NOBODY */
} image_t;

typedef struct {
    image_cache_writer_t *writer; /* one of these two, or neither */
    image_cache_tee_t *tee;
    int image;
    bool owns, begun, ended; /* ended: a tee at its end */
    bool lost, fails;        /* fails: a tee's source does, at its end */
    unsigned seed;
    uint64_t size, expected; /* expected: UINT64_MAX for nothing */
    uint64_t end;            /* of a tee's source, where it ends or fails */
    size_t step;
} stream_t;

typedef struct {
    image_cache_reader_t *reader;
    int image;
    unsigned seed, life; /* life: of the image, to know whether it is still the same one */
    uint64_t size, at;
} reader_t;

extern image_t images[IMAGES];
extern stream_t streams[STREAMS];
extern reader_t readers[READERS];

void start_model(void); /* no image is there, and no time has passed */
uint64_t next_time(void);
image_t *find_image(const char *id); /* NULL where the model has none of that id */
stream_t new_stream(int image);
void begin(stream_t *stream, int image); /* `stream` is one of streams */
void release(stream_t *stream);
void publish(stream_t *stream);
void forget(image_t *image);
bool fits(const stream_t *stream); /* what came is what was expected */

/* ---- The input and the checks: checks.c -------------------------------------------------------------------------- */

extern char buffer[LONGEST];           /* the bytes that are written, and those that were read */
extern image_cache_error_t last_error; /* to be given to every call */

void start_input(const uint8_t *data, size_t size);
bool has_input(void);
unsigned next_byte(void); /* 0 after the end */
unsigned below(unsigned bound);
size_t some_length(void); /* of every magnitude up to LONGEST */

char pattern(unsigned seed, uint64_t at); /* the byte there of every image with that seed */
void fill_buffer(unsigned seed, uint64_t at, size_t length);
void check_buffer(unsigned seed, uint64_t at, size_t length);

void start_checks(void);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2))); /* prints when FUZZ_TRACE is set */
void fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));
image_cache_status_t check(image_cache_status_t status, image_cache_status_t expected, const char *file, int line);

/* The condition holds, or else the process ends, saying what is printed by the format. */
#define SAYING(condition, ...) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition, __VA_ARGS__))
#define MUST(condition) SAYING(condition, "-")

/* The call gives that status, and an error struct that fits it. */
#define STATUS(expected, call) check((call), (expected), __FILE__, __LINE__)
#define OK(call) STATUS(IMAGE_CACHE_OK, call)

/* The whole cache is what the model says: compare.c. */
void compare(image_cache_t *cache, const char *directory);
void write_hits(void);

/* ---- The calls --------------------------------------------------------------------------------------------------- */

/* streams.c */
void begin_write(image_cache_t *cache);
void open_tee(image_cache_t *cache);
void expect_size(void);
void write_or_read_on(void);
void end_stream(stream_t *stream, bool commit);
void prefetch(image_cache_t *cache);

/* readers.c */
void open_reader(image_cache_t *cache);
void read_on(void);
void close_reader(reader_t *reader);
void list_images(image_cache_t *cache);
void free_list(unsigned number);

/* housekeeping.c */
void queue_one(image_cache_t *cache);
void prune(image_cache_t *cache, uint64_t limit);
void clean(image_cache_t *cache);
void delete_one(image_cache_t *cache);
void delete_all(image_cache_t *cache);

/* ids.c */
void bad_id(image_cache_t *cache);
void any_id(image_cache_t *cache);

#endif
