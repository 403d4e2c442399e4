/*
 * Compares the whole cache with the model: what the queries return, and the files in the directory. This file knows the
 * model and the caches, and no writer, tee, reader or list.
 */
#ifndef FUZZ_COMPARE_H
#define FUZZ_COMPARE_H

#include <image_cache.h>

void compare(image_cache_t *cache);

#endif
