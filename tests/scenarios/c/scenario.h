/*
 * Declarations that the files of the C runner share. The runner uses image_cache.h alone.
 * tests/scenarios/README.md describes the language.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image_cache.h"

/* ---- text.c: bytes, escapes and data words ---- */

/* A growable buffer. A NUL that `length` does not count follows the bytes, so they are also a string. */
struct text {
    char *bytes;
    size_t length;
};

void text_append(struct text *text, const void *bytes, size_t length);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_escape(struct text *text, const char *bytes, size_t length); /* escapes as in a transcript: %20 for a space */
void text_fingerprint(struct text *text, const struct text *data);     /* bytes:LENGTH:FNV-1A */
bool text_unescape(struct text *text, const char *word, size_t length);
void text_free(struct text *text);

bool is_data_word(const struct text *word);
bool data_generate(struct text *data, const struct text *word); /* false: no such data */
bool parse_number(const char *digits, uint64_t *number);

void *allocate(size_t size); /* zeroed memory; exits when there is none */

/* ---- line.c: one line, its words and its operation ---- */

struct scenario;
struct handle;

/* One word of a line, parsed as its operation's signature says. */
struct argument {
    struct text text;      /* the decoded word; of data the bytes, of a path the whole path */
    uint64_t number;       /* of a number; a negative one in two's complement */
    struct handle *handle; /* of a handle, open or new */
};

enum { MAX_ARGUMENTS = 64 };

struct call {
    struct argument arguments[MAX_ARGUMENTS];
    size_t count;
    struct text result; /* printed in the transcript */
    struct text detail; /* an error's message, printed to stderr only */
    image_cache_error_t error;
};

typedef void operation_fn(struct scenario *scenario, struct call *call);

/*
 * The signature has a letter for each word:
 *   t text   n number   s seconds, may be negative   d data   p path
 *   c w r e m  a cache, writer, reader, tee or stream that is open   C W R E M  the name for a new one
 *   ?        the words after it may be missing   *  any number of further words of text
 * and begins with @ where the operation needs a selected cache.
 */
struct operation {
    const char *name;
    const char *signature;
    operation_fn *run;
};

/* A NULL name ends each array. */
extern const struct operation cache_operations[], read_write_operations[], tee_operations[], stream_operations[],
    file_operations[], disk_operations[];

void run_line(struct scenario *scenario, unsigned number, char *line);

/* ---- main.c: one scenario and its handles ---- */

enum handle_kind { NO_HANDLE, CACHE_HANDLE, WRITER_HANDLE, READER_HANDLE, TEE_HANDLE, STREAM_HANDLE };

struct handle {
    enum handle_kind kind;
    char name[32];
    union {
        void *any; /* NULL: the handle has ended or was never opened, and its entry is removed */
        image_cache_t *cache;
        image_cache_writer_t *writer;
        image_cache_reader_t *reader;
        image_cache_tee_t *tee;
        image_cache_stream_t *stream;
    } is;
    struct source *source; /* of a tee or stream */
    uint64_t log_messages; /* of a cache */
};

enum { MAX_HANDLES = 32, MAX_FETCHES = 32 };

struct scenario {
    const char *path; /* of the scenario's file */
    const char *driver_name;
    int32_t driver;
    char root[512]; /* the scenario's own directory; its subdirectory "cache" is the cache */
    struct handle handles[MAX_HANDLES];
    struct handle *cache; /* the selected one */
    struct source *fetches[MAX_FETCHES];
    size_t fetch_count;
    unsigned mismatches;
    const char *skipped; /* why the scenario cannot run here, or NULL */
};

struct handle *handle_find(struct scenario *scenario, enum handle_kind kind, const char *name);
struct handle *handle_new(struct scenario *scenario, enum handle_kind kind, const char *name);
void handles_remove_ended(struct scenario *scenario);

/* ---- helpers for operations, in line.c ---- */

#define OPERATION(NAME) static void NAME(struct scenario *scenario __attribute__((unused)), struct call *call)
#define CACHE (scenario->cache->is.cache)
#define TEXT(INDEX) (call->arguments[INDEX].text)
#define NUMBER(INDEX) (call->arguments[INDEX].number)
#define HANDLE(INDEX) (call->arguments[INDEX].handle->is)

const char *status_name(image_cache_status_t status); /* without IMAGE_CACHE_ERROR_ */
/* Prints the status, checks that a failure filled call->error, and returns whether the status is OK. */
bool report(struct call *call, image_cache_status_t status);
/* The same for a call with an out parameter. `cleared`: it is NULL, 0 or false after a failure. */
bool report_out(struct call *call, image_cache_status_t status, bool cleared);
/* Prints OK, or FAILED with errno as the detail. */
void report_system(struct call *call, bool succeeded);
void report_bytes(struct call *call, const struct text *data);
void bad_line(struct call *call, const char *why);

/* ---- source.c: scripted sources ---- */

void source_free(struct source *source);

/* ---- disk.c ---- */

extern const char no_user_attributes[]; /* the reason to skip a scenario */
bool has_user_attributes(const char *directory);

#endif
