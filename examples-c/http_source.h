/* http_source: one download with libcurl, as a source to pull bytes from. Nothing here is about the cache.
 *
 * A tee pulls: it calls a source function for the next bytes. libcurl pushes: it calls a function with them. libcurl's
 * multi interface connects the two without a thread: http_read() runs libcurl until bytes arrive. */
#ifndef HTTP_SOURCE_H
#define HTTP_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_WHY = 256 };
typedef struct http_source http_source_t;

/* Sends the request and waits for the headers. NULL, with the reason in `why`, unless a whole image follows unencoded. */
http_source_t *http_open(const char *url, char why[HTTP_WHY]);

int64_t http_size(const http_source_t *source); /* -1 if the server does not send it */
bool http_has_end(const http_source_t *source); /* whether the response marks its end */
double http_rate(const http_source_t *source);  /* bytes per second so far */

/* A source function for image_cache_tee_open(). It returns the number of bytes, 0 at the end, -1 on failure, and bytes
 * that arrived before the failure first. `source` is an http_source_t; `capacity` is CURL_MAX_WRITE_SIZE or more. */
int64_t http_read(void *source, void *buffer, size_t capacity);

const char *http_failure(const http_source_t *source); /* NULL if the download has not failed */
void http_close(http_source_t *source);                /* or NULL */

#endif
