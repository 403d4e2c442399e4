/*
 * The queue, prune, clean and deletions. This file knows the input, the checks, the model, the caches and the streams,
 * which a clean may take away.
 */
#ifndef FUZZ_HOUSEKEEPING_H
#define FUZZ_HOUSEKEEPING_H

#include <image_cache.h>

void queue_one(image_cache_t *cache);
void prune(image_cache_t *cache);
void clean(image_cache_t *cache);
void delete_one(image_cache_t *cache);
void delete_all(image_cache_t *cache);

#endif
