/*
 * Pins, room, images in use, and verification. This file knows the input, the checks, the model and the caches.
 */
#ifndef FUZZ_BOUNDS_H
#define FUZZ_BOUNDS_H

#include <image_cache.h>

void keep_within_bounds(image_cache_t *cache); /* one of these calls */

#endif
