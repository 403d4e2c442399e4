/* Scripted sources, which tees, streams and prefetch share. */
#ifndef SOURCE_H
#define SOURCE_H

#include "scenario.h"

/* What a source does after its last piece. */
enum last_step {
    ENDS,
    FAILS,
    RETURNS_MORE, /* than was requested */
    REENTERS      /* reads the stream or tee that it is called for, which must fail */
};

/* The pieces that a source returns; of a fetch also its image and the expectations on its writer. */
struct source {
    struct text image_id;
    struct text pieces[MAX_ARGUMENTS];
    size_t count;
    struct text expectations[4]; /* "size:1024", "md5:..." */
    size_t expectation_count;
    enum last_step last;
    struct handle *handle; /* the stream or tee */
    uint64_t position;     /* where a sequential read goes on */
    uint64_t calls;
    uint64_t bytes; /* that it has returned */
};

/* Makes a source from the words from `first` on. Reports a bad line and returns NULL if one is wrong. */
struct source *source_new(const struct scenario *scenario, struct call *call, size_t first, const char *image_id);

/* The functions that the library calls. Their user data is the source. */
int64_t source_read(void *user_data, void *buffer, size_t capacity);
int64_t source_read_at(void *user_data, uint64_t offset, void *buffer, size_t capacity);

/* Read a stream or tee, with a buffer of `capacity` bytes, and print the bytes. */
void report_one_read(struct call *call, struct handle *handle, uint64_t capacity);
void report_all_reads(struct call *call, struct handle *handle, uint64_t capacity);

#endif
