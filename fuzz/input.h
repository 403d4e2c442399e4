/*
 * The input's bytes, one after the other. This file knows nothing of the library or of the model.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LONGEST = 20000 };

void start_input(const uint8_t *data, size_t size);
bool has_input(void);
unsigned next_byte(void); /* 0 after the end */
unsigned below(unsigned bound);
size_t next_length(void); /* of every magnitude up to LONGEST */

#endif
