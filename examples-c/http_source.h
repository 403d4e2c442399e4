/* http_source: an image on a web server, as a source to read at any offset. Nothing here is about the cache.
 *
 * A stream pulls: it calls a source function for the bytes at an offset. libcurl pushes: it calls a function with them.
 * libcurl's multi interface connects the two without a thread: http_read_at() runs libcurl until the bytes are there.
 *
 * Each read is one range request, and all use one connection. So a reader that loses its turn leaves no bytes unread.
 * A server without ranges sends the whole image: its response is kept, and read as long as the offsets grow. Bytes that
 * others have fetched in between are skipped. */
#ifndef HTTP_SOURCE_H
#define HTTP_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http_source http_source_t;

/* Sends nothing yet. NULL if libcurl cannot be set up. Use it from one thread at a time. */
http_source_t *http_open(const char *url);

/* Sends the first request and waits for its headers, which have the size. A read at 0 continues with its bytes. */
bool http_begin(http_source_t *source);

/* A source function for image_cache_stream_open(); `source` is an http_source_t. It returns the number of bytes, 0 at
 * the end, -1 on failure, and bytes that arrived before the failure first. It fills the buffer, so that one turn of the
 * stream is one request. After 10 s it returns what it has. */
int64_t http_read_at(void *source, uint64_t offset, void *buffer, size_t capacity);

int64_t http_size(const http_source_t *source); /* -1 before the first response, and if the server does not send it */
bool http_has_end(const http_source_t *source); /* whether the last response marks its end */
const char *http_failure(const http_source_t *source); /* of the last read; NULL if it has not failed */
void http_stop(http_source_t *source);  /* from any thread: the present read and all later ones fail within 1 s */
void http_close(http_source_t *source); /* or NULL */

#endif
