#include "input.h"

static const uint8_t *input, *input_end;

void start_input(const uint8_t *data, size_t size) { input = data, input_end = data + size; }
bool has_input(void) { return input < input_end; }
unsigned next_byte(void) { return has_input() ? *input++ : 0; }
unsigned below(unsigned bound) { return next_byte() % bound; }

size_t next_length(void)
{
    size_t length = next_byte();
    length <<= next_byte() % 8;
    return length < LONGEST ? length : LONGEST;
}
