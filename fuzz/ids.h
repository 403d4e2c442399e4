/*
 * Calls with invalid ids, and with arbitrary bytes as an id. This file knows the input, the checks and the model's ids.
 */
#ifndef FUZZ_IDS_H
#define FUZZ_IDS_H

#include <image_cache.h>

void invalid_id(image_cache_t *cache);
void any_id(image_cache_t *cache);

#endif
