/*
 * Prefetch, with a fetch function that fails at times. This file knows the input, the checks, the content and the model.
 */
#ifndef FUZZ_PREFETCH_H
#define FUZZ_PREFETCH_H

#include <image_cache.h>

void prefetch(image_cache_t *cache);

#endif
