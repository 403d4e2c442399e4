/* See http_source.h. */
#define _XOPEN_SOURCE 700 /* POSIX of 2008: clock_gettime, strncasecmp */

#include "http_source.h"

#include <curl/curl.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    STALLED = 60,  /* seconds without a byte until a request fails */
    PATIENCE = 10, /* seconds until a read returns the bytes that it has; less than a stream's source timeout */
    REDIRECTIONS = 5,
    FIRST = 1 << 20, /* bytes that http_begin() requests */
    WHY = 256
};

struct http_source {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;

    /* The image. */
    int64_t size; /* -1 if unknown */
    char etag[128];

    /* The response. */
    bool begun;              /* its headers are there and were accepted */
    bool whole;              /* it has the whole image, not a range */
    bool encoded, has_end;   /* its bytes are not the image's; it marks its end */
    uint64_t first, end, of; /* its Content-Range */
    bool has_range;          /* whether it has one */
    uint64_t next;           /* the offset of the next byte that libcurl delivers */
    uint64_t wanted;         /* bytes before this offset are skipped */
    int running;             /* 0 once the transfer has succeeded or failed */
    bool paused;             /* libcurl keeps bytes that had no room */
    CURLcode result;

    /* The caller's buffer, and bytes before `next` that had no room in it. */
    char *buffer;
    size_t capacity, length;
    char spare[CURL_MAX_WRITE_SIZE];
    size_t spare_length;

    int stopped;
    char curl_why[CURL_ERROR_SIZE], why[WHY];
};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t least(uint64_t one, uint64_t other) { return (size_t)(one < other ? one : other); }

static bool fail(http_source_t *source, const char *why)
{
    if (source->why[0] == '\0') /* the first reason is the cause */
        snprintf(source->why, sizeof source->why, "%s", why);
    return false;
}

/* ---- The headers ------------------------------------------------------------------------------------------------- */

/* The value of a header line, without the spaces around it; false if the line is another header. */
static bool value_of(const char *line, size_t length, const char *name, char value[128])
{
    size_t at = strlen(name);
    if (length < at || strncasecmp(line, name, at) != 0)
        return false;
    while (at < length && isspace((unsigned char)line[at]))
        at++;
    while (length > at && isspace((unsigned char)line[length - 1]))
        length--;
    snprintf(value, 128, "%.*s", (int)(length - at), line + at);
    return true;
}

static void clear_headers(http_source_t *source, bool is_http_1)
{
    source->encoded = source->has_range = false;
    source->has_end = !is_http_1; /* HTTP/2 marks the end of each response */
    source->of = UINT64_MAX;
}

/* libcurl calls this with each header line, those of redirections included. */
static size_t receive_header(char *line, size_t one, size_t length, void *user_data)
{
    http_source_t *source = user_data;
    char value[128];
    uint64_t last = 0;
    (void)one; /* always 1 */

    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) /* another response begins */
        clear_headers(source, length >= 7 && memcmp(line, "HTTP/1.", 7) == 0);
    if (value_of(line, length, "Content-Encoding:", value) && value[0] != '\0')
        source->encoded = strcasecmp(value, "identity") != 0;
    if (value_of(line, length, "Content-Length:", value) || value_of(line, length, "Transfer-Encoding:", value))
        source->has_end = source->has_end || strcasecmp(value, "identity") != 0;
    if (value_of(line, length, "Content-Range:", value)) {
        source->has_range = sscanf(value, "bytes %" SCNu64 "-%" SCNu64, &source->first, &last) == 2;
        source->end = last + 1;
        const char *slash = strchr(value, '/');
        if (slash != NULL && isdigit((unsigned char)slash[1]))
            source->of = strtoull(slash + 1, NULL, 10);
    }
    if (value_of(line, length, "ETag:", value) && source->etag[0] == '\0')
        memcpy(source->etag, value, sizeof value);
    else if (value_of(line, length, "ETag:", value) && strcmp(source->etag, value) != 0)
        fail(source, "the image has changed on the server");
    return length;
}

/* Compares the image's size in this response with that of the others. */
static bool agree_size(http_source_t *source, int64_t size)
{
    if (source->size >= 0 && size >= 0 && source->size != size)
        return fail(source, "the image has changed on the server");
    if (size >= 0)
        source->size = size;
    return true;
}

/* Accepts the response, or stores why it is no part of the image. */
static bool begin_body(http_source_t *source)
{
    long code = 0;
    curl_off_t length = -1;
    char why[64];
    curl_easy_getinfo(source->easy, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(source->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    int64_t of = source->of <= INT64_MAX ? (int64_t)source->of : -1;
    snprintf(why, sizeof why, "the server answers %ld", code);
    if (source->why[0] != '\0')
        return false;
    if (source->encoded)
        return fail(source, "the server sends it with a Content-Encoding");
    source->begun = true;
    source->whole = code == 200;
    if (code == 200)
        source->next = 0;
    else if (code == 206 && source->has_range && source->first == source->wanted)
        source->next = source->first, source->has_end = true;
    else if (code == 416 && of >= 0 && source->wanted >= (uint64_t)of) /* the read is at the end */
        source->wanted = UINT64_MAX;                                   /* skips the text of the answer */
    else
        return fail(source, why);
    return agree_size(source, code == 200 ? length : of);
}

/* ---- The transfer ------------------------------------------------------------------------------------------------ */

/* libcurl calls this with at most CURL_MAX_WRITE_SIZE bytes. While `spare` has bytes, it keeps them, and delivers them
 * after the pause. So a slow reader slows the server down, and memory stays bounded. */
static size_t receive(char *bytes, size_t one, size_t length, void *user_data)
{
    http_source_t *source = user_data;
    (void)one; /* always 1 */
    if (!source->begun && !begin_body(source))
        return 0; /* fails the transfer */
    source->paused = source->length == source->capacity;
    if (source->paused)
        return CURL_WRITEFUNC_PAUSE;
    size_t skipped = source->wanted > source->next ? least(length, source->wanted - source->next) : 0;
    size_t taken = least(length - skipped, source->capacity - source->length);
    memcpy(source->buffer + source->length, bytes + skipped, taken);
    source->length += taken;
    source->spare_length = length - skipped - taken;
    memcpy(source->spare, bytes + skipped + taken, source->spare_length);
    source->next += length;
    return length;
}

/* Runs the transfer once, and stores its result when it ends. */
static void run_once(http_source_t *source)
{
    if (curl_multi_perform(source->multi, &source->running) != CURLM_OK)
        source->running = 0, source->result = CURLE_FAILED_INIT;
    CURLMsg *message = curl_multi_info_read(source->multi, &(int){0});
    if (message == NULL || message->msg != CURLMSG_DONE)
        return;
    source->running = 0, source->result = message->data.result;
    if (source->result == CURLE_OK && !source->begun && !begin_body(source)) /* a response without a body */
        source->result = CURLE_HTTP_RETURNED_ERROR;
    if (source->result == CURLE_OK && source->whole)
        source->size = (int64_t)source->next;
    if (source->result != CURLE_OK)
        fail(source, source->curl_why[0] != '\0' ? source->curl_why : curl_easy_strerror(source->result));
}

/* At the end of a range the transfer runs until it is done, or the next request would need a new connection. */
static bool has_enough(const http_source_t *source)
{
    bool at_end_of_range = source->begun && !source->whole && source->next == source->end;
    return source->length == source->capacity && !at_end_of_range;
}

static bool is_stopped(const http_source_t *source) { return __atomic_load_n(&source->stopped, __ATOMIC_ACQUIRE) != 0; }

/* Runs the transfer until the buffer is full, or the transfer or the time ends. */
static void fill(http_source_t *source)
{
    double end = seconds() + PATIENCE;
    if (source->paused) {
        source->paused = false;
        curl_easy_pause(source->easy, CURLPAUSE_CONT); /* may call receive() before it returns */
    }
    while (source->running && !has_enough(source) && !is_stopped(source)) {
        run_once(source);
        if (source->length > 0 && seconds() >= end)
            break;
        if (source->running && !has_enough(source))
            curl_multi_poll(source->multi, NULL, 0, 1000, NULL); /* sleeps until the socket is ready, or http_stop() */
    }
    if (is_stopped(source))
        fail(source, "it was stopped");
}

/* Begins a request for `capacity` bytes. A server without ranges sends the whole image. */
static void request(http_source_t *source, uint64_t offset, size_t capacity)
{
    char range[64];
    if (source->size >= 0)
        capacity = least(capacity, (uint64_t)source->size - offset);
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, offset, offset + capacity - 1);
    curl_multi_remove_handle(source->multi, source->easy); /* a response that has not ended closes its connection */
    curl_easy_setopt(source->easy, CURLOPT_RANGE, source->begun && source->whole ? NULL : range);
    source->begun = source->whole = source->paused = false;
    source->next = source->wanted = offset;
    source->spare_length = 0;
    source->running = 1, source->result = CURLE_OK;
    source->curl_why[0] = '\0';
    curl_multi_add_handle(source->multi, source->easy);
}

/* Takes bytes that had no room before, without those before `wanted`. */
static void take_spare(http_source_t *source)
{
    uint64_t at = source->next - source->spare_length;
    size_t skipped = source->wanted > at ? least(source->spare_length, source->wanted - at) : 0;
    size_t taken = least(source->spare_length - skipped, source->capacity);
    memcpy(source->buffer, source->spare + skipped, taken);
    source->length = taken;
    source->spare_length -= skipped + taken;
    memmove(source->spare, source->spare + skipped + taken, source->spare_length);
}

/* Whether the present response has the byte at an offset, and it has not been read yet. */
static bool continues_at(const http_source_t *source, uint64_t offset)
{
    uint64_t at = source->next - source->spare_length;
    bool has_more = source->running || source->spare_length > 0;
    return has_more && (offset == at || (offset > at && source->whole));
}

int64_t http_read_at(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    http_source_t *source = user_data;
    if (source->size >= 0 && offset >= (uint64_t)source->size)
        return 0;
    bool is_broken = source->whole && source->result != CURLE_OK && source->spare_length == 0;
    source->why[0] = '\0';
    if (is_broken) { /* to begin again would send the whole image again */
        fail(source, source->curl_why[0] != '\0' ? source->curl_why : curl_easy_strerror(source->result));
        return -1;
    }
    if (!continues_at(source, offset))
        request(source, offset, capacity);
    source->buffer = buffer, source->capacity = capacity;
    source->wanted = offset;
    take_spare(source);
    fill(source);
    size_t length = source->length;
    source->length = source->capacity = 0; /* http_begin() and a pause have no room */
    if (length > 0 && !is_stopped(source)) {
        source->why[0] = '\0';
        return (int64_t)length;
    }
    return source->why[0] == '\0' ? 0 : -1;
}

bool http_begin(http_source_t *source)
{
    source->why[0] = '\0';
    request(source, 0, FIRST);
    while (source->running && !source->begun && !is_stopped(source)) {
        run_once(source); /* there is no room yet: the first bytes after the headers pause the transfer */
        if (source->running && !source->begun)
            curl_multi_poll(source->multi, NULL, 0, 1000, NULL);
    }
    return source->why[0] == '\0' && (source->begun || !is_stopped(source));
}

/* ---- Its handle -------------------------------------------------------------------------------------------------- */

static void set_options(http_source_t *source, const char *url)
{
    CURL *easy = source->easy;
    source->headers = curl_slist_append(NULL, "Accept-Encoding: identity"); /* the image, not its gzip */
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, source->headers);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* threads may have sources */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85 */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALLED);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, source->curl_why);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, source);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, source);
}

http_source_t *http_open(const char *url)
{
    http_source_t *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->size = -1;
    source->easy = curl_easy_init();
    source->multi = curl_multi_init();
    if (source->easy != NULL && source->multi != NULL) {
        set_options(source, url);
        return source;
    }
    http_close(source);
    return NULL;
}

void http_stop(http_source_t *source)
{
    __atomic_store_n(&source->stopped, 1, __ATOMIC_RELEASE);
    curl_multi_wakeup(source->multi);
}

void http_close(http_source_t *source)
{
    if (source == NULL)
        return;
    if (source->multi != NULL && source->easy != NULL)
        curl_multi_remove_handle(source->multi, source->easy);
    curl_easy_cleanup(source->easy);
    curl_multi_cleanup(source->multi);
    curl_slist_free_all(source->headers);
    free(source);
}

int64_t http_size(const http_source_t *source) { return source->size; }

bool http_has_end(const http_source_t *source) { return source->has_end; }

const char *http_failure(const http_source_t *source) { return source->why[0] != '\0' ? source->why : NULL; }
