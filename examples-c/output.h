/* output: where fetch_http puts an image. Nothing here is about the cache, or about HTTP.
 *
 * A regular file has its old content, or the whole new one, and at no time half of it: the bytes go to a temporary file
 * beside it, which gets its name in the end, and which is gone after a failure, SIGINT and SIGTERM (SIGKILL leaves it). A
 * pipe or a device gets the bytes as they come. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    FILE *file;              /* NULL for nowhere */
    char *final, *temporary; /* of a regular file */
} output_t;

/* These return 0 or an errno. output_close() is called also after output_open() failed. */
int output_open(output_t *output, const char *name); /* a path, "-" for stdout, NULL for nowhere */
int output_write(const output_t *output, const void *bytes, size_t length);
int output_close(output_t *output, bool whole);

/* Whether it is a regular file directly in that folder. */
bool output_lies_in(const output_t *output, const char *folder);

#endif
