/*
 * The input's bytes, one after the other; the bytes of images; and the checks, which end the process where something is
 * not as it must be.
 */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char buffer[LONGEST];
image_cache_error_t last_error;
static const uint8_t *input, *input_end;
static bool tracing;

/* ---- The input --------------------------------------------------------------------------------------------------- */

void start_input(const uint8_t *data, size_t size) { input = data, input_end = data + size; }
bool has_input(void) { return input < input_end; }
unsigned next_byte(void) { return has_input() ? *input++ : 0; }
unsigned below(unsigned bound) { return next_byte() % bound; }

size_t some_length(void)
{
    size_t length = next_byte();
    length <<= next_byte() % 8;
    return length < LONGEST ? length : LONGEST;
}

/* ---- The bytes of images ----------------------------------------------------------------------------------------- */

char pattern(unsigned seed, uint64_t at) { return (char)(seed * 31 + at * 7 + (at >> 8)); }

void fill_buffer(unsigned seed, uint64_t at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = pattern(seed, at + i);
}

void check_buffer(unsigned seed, uint64_t at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        SAYING(buffer[i] == pattern(seed, at + i), "byte %" PRIu64, at + i);
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

/* What no call has written: a call that fails must write all of it that is read. */
static void spoil_error(void)
{
    memset(&last_error, 0x55, sizeof last_error);
    last_error.message[sizeof last_error.message - 1] = '\0';
}

void start_checks(void)
{
    tracing = getenv("FUZZ_TRACE") != NULL;
    spoil_error();
}

void trace(const char *format, ...)
{
    if (!tracing)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

void fail(const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: not so: %s: ", file, line, what);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n    the error: %s\n", last_error.status < 0 ? last_error.message : "none");
    va_end(arguments);
    abort();
}

image_cache_status_t check(image_cache_status_t status, image_cache_status_t expected, const char *file, int line)
{
    trace("    %s\n", image_cache_status_name(status));
    if (status != expected)
        fail(file, line, "the status", "expected %s, got %s", image_cache_status_name(expected),
             image_cache_status_name(status));
    if (status < 0 && (last_error.status != status || last_error.message[0] == '\0' ||
                       memchr(last_error.message, 0, sizeof last_error.message) == NULL))
        fail(file, line, "the error fits its status", "%d in %s", (int)last_error.status, image_cache_status_name(status));
    spoil_error();
    return status;
}
