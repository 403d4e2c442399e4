/* See slow_server.h. */
#define _XOPEN_SOURCE 700 /* POSIX of 2008: clock_nanosleep, sockets */

#include "slow_server.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 16 << 10, HEADERS = 8192 };

typedef struct {
    const slow_server_t *server;
    int socket;
} connection_t;

/* When the link is free again. All connections share it. */
static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;
static double link_free;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void sleep_until(double time)
{
    struct timespec until = {.tv_sec = (time_t)time, .tv_nsec = (long)((time - (double)(time_t)time) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
        ;
}

/* Waits until the link has carried so many bytes. */
static void use_link(const slow_server_t *server, size_t length)
{
    pthread_mutex_lock(&link_lock);
    double now = seconds();
    link_free = (link_free > now ? link_free : now) + (double)length / server->rate;
    double end = link_free;
    pthread_mutex_unlock(&link_lock);
    sleep_until(end);
}

static bool send_all(int socket, const char *bytes, size_t length, uint64_t *sent)
{
    while (length > 0) {
        ssize_t done = send(socket, bytes, length, MSG_NOSIGNAL);
        if (done <= 0)
            return false;
        __atomic_add_fetch(sent, (uint64_t)done, __ATOMIC_RELAXED);
        bytes += done, length -= (size_t)done;
    }
    return true;
}

/* Reads a request's headers. A client sends its next request after the response. */
static bool receive_headers(int socket, char text[HEADERS])
{
    size_t length = 0;
    do {
        ssize_t got = recv(socket, text + length, HEADERS - 1 - length, 0);
        if (got <= 0)
            return false;
        length += (size_t)got;
        text[length] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL && length < HEADERS - 1);
    return true;
}

static bool respond(const connection_t *connection, const char *headers)
{
    const slow_server_t *server = connection->server;
    uint64_t first = 0, last = 0, ignored = 0;
    char text[256];
    const char *range = strstr(headers, "\r\nRange: bytes=");
    bool is_right = range != NULL && sscanf(range + 15, "%" SCNu64 "-%" SCNu64, &first, &last) == 2 && first <= last
                    && first < server->size;
    if (last >= server->size)
        last = server->size - 1;
    if (is_right)
        snprintf(text, sizeof text,
                 "HTTP/1.1 206 Partial Content\r\nContent-Length: %" PRIu64 "\r\nContent-Range: bytes %" PRIu64
                 "-%" PRIu64 "/%" PRIu64 "\r\n\r\n",
                 last - first + 1, first, last, server->size);
    else
        snprintf(text, sizeof text,
                 "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n"
                 "Content-Range: bytes */%" PRIu64 "\r\n\r\n",
                 server->size);
    sleep_until(seconds() + server->latency);
    bool goes_on = send_all(connection->socket, text, strlen(text), &ignored);
    for (uint64_t at = first; is_right && goes_on && at <= last; at += CHUNK) {
        size_t length = last + 1 - at < CHUNK ? (size_t)(last + 1 - at) : CHUNK;
        use_link(server, length);
        goes_on = send_all(connection->socket, server->image + at, length, &server->counts->sent);
    }
    return goes_on;
}

static void *serve(void *argument)
{
    connection_t *connection = argument;
    slow_counts_t *counts = connection->server->counts;
    char headers[HEADERS];
    bool goes_on = true;
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    while (goes_on && receive_headers(connection->socket, headers)) {
        __atomic_add_fetch(&counts->requests, 1, __ATOMIC_RELAXED);
        goes_on = respond(connection, headers);
    }
    close(connection->socket);
    free(connection);
    return NULL;
}

int slow_server_listen(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1024) != 0
        || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        return -1;
    *port = ntohs(address.sin_port);
    return listener;
}

void slow_server_run(const slow_server_t *server, int listener)
{
    for (;;) {
        connection_t *connection = malloc(sizeof *connection);
        pthread_t thread;
        if (connection == NULL)
            abort();
        *connection = (connection_t){server, accept(listener, NULL, NULL)};
        if (connection->socket >= 0 && pthread_create(&thread, NULL, serve, connection) == 0) {
            pthread_detach(thread);
        } else {
            close(connection->socket);
            free(connection);
        }
    }
}
