/*
 * Two handles of one cache directory. This file knows the input, the checks and the workspace, and no reader, writer, tee
 * or list.
 */
#ifndef FUZZ_CACHES_H
#define FUZZ_CACHES_H

#include <image_cache.h>

#include <stdint.h>

enum { CACHES = 2 };

extern image_cache_t *caches[CACHES]; /* NULL where closed */
extern uint64_t max_size;

void start_caches(int32_t driver); /* an empty directory, opened twice, with durability none */
void open_cache(unsigned number);
void close_cache(unsigned number);
void close_caches(void);
void end_caches(void); /* frees the options */

/* A handle batches its accesses. This writes the pending ones of all handles to the index. */
void flush_accesses(void);

#endif
