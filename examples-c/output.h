/* output: where fetch_http writes an image. Nothing here is about the cache, or about HTTP.
 *
 * A regular file has its old content or the whole new one, never a part. The bytes go to a temporary file beside it,
 * which is renamed at the end. A failure, SIGINT or SIGTERM removes it; SIGKILL leaves it. A pipe or a device gets the
 * bytes at once. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    FILE *file;              /* NULL for no output */
    char *final, *temporary; /* of a regular file */
} output_t;

/* These return 0 or an errno. Call output_close() after a failed output_open(), too. */
int output_open(output_t *output, const char *name); /* a path, "-" for stdout, NULL for none */
int output_write(const output_t *output, const void *bytes, size_t length);
int output_close(output_t *output, bool whole);

/* Whether it is a regular file directly in that directory. */
bool output_lies_in(const output_t *output, const char *directory);

#endif
