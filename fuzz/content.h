/*
 * The bytes of images: a seed and an offset determine each byte. This file knows the input and the
 * checks.
 */
#ifndef FUZZ_CONTENT_H
#define FUZZ_CONTENT_H

#include "input.h" /* LONGEST */

extern char buffer[LONGEST]; /* for the bytes of one write or read */

void fill(void *bytes, unsigned seed, uint64_t offset, size_t length);
void check_buffer(unsigned seed, uint64_t offset, size_t length);

#endif
