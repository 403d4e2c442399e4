/*
 * What the files of the scenario runner share. The runner plays the *.scenario files of tests/scenarios
 * through image_cache.h alone; tests/scenarios/README.md describes their language.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image_cache.h"

/* ---- text.c: bytes, and the words that stand for them ---- */

/* Bytes that grow; a NUL that does not count always follows them, so that they also serve as text. */
struct text {
    char *bytes;
    size_t length;
};

void text_append(struct text *text, const void *bytes, size_t length);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_escape(struct text *text, const char *bytes, size_t length); /* for a transcript: %20 for a space */
void text_fingerprint(struct text *text, const struct text *data);     /* bytes:LENGTH:FNV-1A */
bool text_unescape(struct text *text, const char *word, size_t length);
void text_free(struct text *text);

bool is_data_word(const struct text *word);
bool data_generate(struct text *data, const struct text *word); /* false: no such data */
bool parse_number(const char *digits, uint64_t *number);

void *allocate(size_t size); /* zeroed; ends the program where there is no memory */

/* ---- line.c: a line, cut into words and matched with its operation ---- */

struct scenario;
struct handle;

/* One word of a line, read as its operation's signature asks. */
struct argument {
    struct text text;      /* the word without its escapes; for data the bytes; for a path the whole path */
    uint64_t number;       /* for a number; a negative one is kept in two's complement */
    struct handle *handle; /* for a handle, whether it is there already or was made for this line */
};

enum { MOST_ARGUMENTS = 64 };

struct call {
    struct argument arguments[MOST_ARGUMENTS];
    size_t count;
    struct text result; /* what the operation found; goes into the transcript */
    struct text detail; /* an error's message and the like: for people, never in the transcript */
    image_cache_error_t error;
};

typedef void operation_fn(struct scenario *scenario, struct call *call);

/*
 * The signature has a letter for each word:
 *   t text   n number   s seconds, may be negative   d data   p path
 *   c w r e  a cache, writer, reader or tee that is open   C W R E  the name for a new one
 *   ?        the words after it may be missing   *  any number of further words of text
 * and begins with @ where the operation needs a selected cache.
 */
struct operation {
    const char *name;
    const char *signature;
    operation_fn *run;
};

/* Each ends with an entry without a name. */
extern const struct operation cache_operations[], stream_operations[], tee_operations[], folder_operations[],
    disk_operations[];

void play_line(struct scenario *scenario, unsigned number, char *line);

/* ---- main.c: one scenario and the handles that it has open ---- */

enum handle_kind { NO_HANDLE, CACHE_HANDLE, WRITER_HANDLE, READER_HANDLE, TEE_HANDLE };

struct handle {
    enum handle_kind kind;
    char name[32];
    union {
        void *any; /* NULL after a line: the handle was ended, or never made, and is forgotten */
        image_cache_t *cache;
        image_cache_writer_t *writer;
        image_cache_reader_t *reader;
        image_cache_tee_t *tee;
    } is;
    struct source *source; /* of a tee */
    uint64_t log_messages; /* of a cache */
};

enum { MOST_HANDLES = 32, MOST_FETCHES = 32 };

struct scenario {
    const char *path; /* of the scenario's file */
    const char *driver_name;
    int32_t driver;
    char root[512];              /* the scenario's own folder; "cache" in it is the cache's directory */
    struct handle handles[MOST_HANDLES];
    struct handle *cache;        /* the selected one */
    struct source *fetches[MOST_FETCHES];
    size_t fetch_count;
    unsigned mismatches;
    const char *skipped;         /* why the scenario can't be played here */
};

struct handle *handle_find(struct scenario *scenario, enum handle_kind kind, const char *name);
struct handle *handle_new(struct scenario *scenario, enum handle_kind kind, const char *name);
void handles_forget_ended(struct scenario *scenario);

/* ---- helpers for operations, in line.c ---- */

#define OPERATION(NAME) static void NAME(struct scenario *scenario __attribute__((unused)), struct call *call)
#define CACHE (scenario->cache->is.cache)
#define TEXT(INDEX) (call->arguments[INDEX].text)
#define NUMBER(INDEX) (call->arguments[INDEX].number)
#define HANDLE(INDEX) (call->arguments[INDEX].handle->is)

const char *status_name(image_cache_status_t status); /* without IMAGE_CACHE_ERROR_ */
/* The status by name; and that a failure filled call->error. True when the status is OK. */
bool report(struct call *call, image_cache_status_t status);
/* The same of a call with an out parameter; `cleared` says whether a failure set it to NULL, 0 or false. */
bool report_out(struct call *call, image_cache_status_t status, bool cleared);
/* OK, or FAILED with errno as the detail. */
void report_system(struct call *call, bool succeeded);
void report_bytes(struct call *call, const struct text *data);
void bad_line(struct call *call, const char *why);

/* ---- tee.c: scripted sources and fetches ---- */

void source_free(struct source *source);

/* ---- disk.c ---- */

extern const char no_user_attributes[]; /* why a scenario is skipped */
bool has_user_attributes(const char *folder);

#endif
