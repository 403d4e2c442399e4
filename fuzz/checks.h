/*
 * Checks that end the process, and the trace of calls. This file knows the library's statuses and errors only.
 */
#ifndef FUZZ_CHECKS_H
#define FUZZ_CHECKS_H

#include <image_cache.h>

#include <inttypes.h>

extern image_cache_error_t last_error; /* every call gets this one */

void start_checks(void);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2))); /* prints if FUZZ_TRACE is set */
void fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));
image_cache_status_t check(image_cache_status_t status, image_cache_status_t expected, const char *file, int line);

/* The condition must hold. Otherwise the process prints the format's text and aborts. */
#define MUSTF(condition, ...) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition, __VA_ARGS__))
#define MUST(condition) MUSTF(condition, "-")

/* The call must return that status, and an error struct that fits it. */
#define STATUS(expected, call) check((call), (expected), __FILE__, __LINE__)
#define OK(call) STATUS(IMAGE_CACHE_OK, call)

#endif
