#include "checks.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

image_cache_error_t last_error;
static bool tracing;

/* A call that fails must overwrite all of the error that is read later. */
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
    fprintf(stderr, "%s:%d: check failed: %s: ", file, line, what);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n    last error: %s\n", last_error.status < 0 ? last_error.message : "none");
    va_end(arguments);
    abort();
}

image_cache_status_t check(image_cache_status_t status, image_cache_status_t expected, const char *file, int line)
{
    trace("    %s\n", image_cache_status_name(status));
    if (status != expected)
        fail(file, line, "the status", "expected %s, got %s", image_cache_status_name(expected),
             image_cache_status_name(status));
    if (status < 0
        && (last_error.status != status || last_error.message[0] == '\0'
            || memchr(last_error.message, 0, sizeof last_error.message) == NULL))
        fail(file, line, "the error fits its status", "%d in %s", (int)last_error.status,
             image_cache_status_name(status));
    spoil_error();
    return status;
}
