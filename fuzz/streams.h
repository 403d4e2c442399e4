/*
 * The calls that cache an image chunk by chunk: writers and tees. This file knows the input, the checks, the content and
 * the model. It holds the handles, and what is expected of each.
 */
#ifndef FUZZ_STREAMS_H
#define FUZZ_STREAMS_H

#include <image_cache.h>

#include <stdbool.h>

void begin_write(image_cache_t *cache);
void open_tee(image_cache_t *cache);
void expect_size(void);
void write_or_read(void);
void commit_stream(void); /* a tee is closed */
void abort_stream(void);
void end_streams(bool commit);

/* A clean with stall time 0 takes the unfinished file of every stream. */
void lose_streams(void);

#endif
