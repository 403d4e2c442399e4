/*
 * The lists of cached and queued images. This file knows the input, the checks, the model and the caches. It holds the
 * lists.
 */
#ifndef FUZZ_LISTS_H
#define FUZZ_LISTS_H

#include <image_cache.h>

void list_images(image_cache_t *cache);
void free_lists(void);

#endif
