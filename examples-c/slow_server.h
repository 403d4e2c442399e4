/* slow_server: a web server on the loopback device that sends ranges of one image, slowly, and counts. It stands for a
 * remote store. Nothing here is about the cache. */
#ifndef SLOW_SERVER_H
#define SLOW_SERVER_H

#include <stddef.h>
#include <stdint.h>

/* In memory that processes share. Each field is read and written atomically. */
typedef struct {
    uint64_t requests, sent; /* sent: bytes of the image */
} slow_counts_t;

typedef struct {
    const char *image;
    uint64_t size;
    double rate;    /* bytes per second, for all connections together */
    double latency; /* seconds before each response */
    slow_counts_t *counts;
} slow_server_t;

int slow_server_listen(uint16_t *port); /* a socket, or -1 with errno */

/* Serves for ever, each connection on a thread of its own. */
void slow_server_run(const slow_server_t *server, int socket);

#endif
