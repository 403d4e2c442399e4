/*
 * Streams with a source that can be read at any offset, each from its open to its close. This file knows the input, the
 * checks, the content and the model.
 */
#ifndef FUZZ_FETCHES_H
#define FUZZ_FETCHES_H

#include <image_cache.h>

void fetch_stream(image_cache_t *cache);

#endif
