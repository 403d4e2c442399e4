/*
 * The calls that read images. This file knows the input, the checks, the content and the model. It holds the readers.
 */
#ifndef FUZZ_READERS_H
#define FUZZ_READERS_H

#include <image_cache.h>

void open_reader(image_cache_t *cache);
void read_on(void);
void close_reader(void);
void close_readers(void);

#endif
