/* See http_source.h. */
#define _XOPEN_SOURCE 700 /* POSIX of 2008: strncasecmp */

#include "http_source.h"

#include <curl/curl.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STALLED = 60 /* seconds without a byte until the download fails */, REDIRECTIONS = 5 };

struct http_source {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    char *buffer; /* for the next bytes, with room for `capacity` */
    size_t capacity, length;
    bool paused;  /* libcurl keeps bytes that had no room */
    bool encoded; /* the response's bytes are not the image's */
    bool has_end;
    int running; /* 0 once the transfer has succeeded or failed */
    CURLcode result;
    char why[CURL_ERROR_SIZE];
};

/* ---- libcurl's callbacks ----------------------------------------------------------------------------------------- */

/* libcurl calls this with at most CURL_MAX_WRITE_SIZE bytes. It keeps bytes for which there is no room, and delivers
 * them after the pause. So a slow reader slows the server down, and memory stays bounded. */
static size_t receive(char *bytes, size_t one, size_t length, void *user_data)
{
    http_source_t *source = user_data;
    (void)one; /* always 1 */
    source->paused = length > source->capacity - source->length;
    if (source->paused)
        return CURL_WRITEFUNC_PAUSE;
    memcpy(source->buffer + source->length, bytes, length);
    source->length += length;
    return length;
}

/* Whether the line, which has no NUL at its end, is the named header with a value other than the given one. */
static bool header_is_not(const char *line, size_t length, const char *name, const char *value)
{
    size_t at = strlen(name);
    if (length < at || strncasecmp(line, name, at) != 0)
        return false;
    while (at < length && isspace((unsigned char)line[at]))
        at++;
    return at < length && (length - at < strlen(value) || strncasecmp(line + at, value, strlen(value)) != 0);
}

/* libcurl calls this with each header line, those of redirections included. */
static size_t receive_header(char *line, size_t one, size_t length, void *user_data)
{
    http_source_t *source = user_data;
    (void)one; /* always 1 */

    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) /* another response begins */
        source->encoded = false, source->has_end = length >= 7 && memcmp(line, "HTTP/1.", 7) != 0;
    if (header_is_not(line, length, "Content-Encoding:", "identity"))
        source->encoded = true;
    if (header_is_not(line, length, "Content-Length:", "none")
        || header_is_not(line, length, "Transfer-Encoding:", "identity"))
        source->has_end = true;
    return length;
}

/* ---- The transfer ------------------------------------------------------------------------------------------------ */

/* Runs the transfer once, and stores its result when it ends. */
static void run_once(http_source_t *source)
{
    if (curl_multi_perform(source->multi, &source->running) != CURLM_OK)
        source->running = 0, source->result = CURLE_FAILED_INIT;
    CURLMsg *message = curl_multi_info_read(source->multi, &(int){0});
    if (message != NULL && message->msg == CURLMSG_DONE)
        source->result = message->data.result;
}

/* Runs the transfer until bytes have arrived or wait for room, or until it ends. */
static void run(http_source_t *source)
{
    for (run_once(source); source->length == 0 && !source->paused && source->running; run_once(source))
        curl_multi_poll(source->multi, NULL, 0, 1000, NULL); /* sleeps until the socket is ready */
}

int64_t http_read(void *user_data, void *buffer, size_t capacity)
{
    http_source_t *source = user_data;
    source->buffer = buffer, source->capacity = capacity, source->length = 0;
    if (source->paused) {
        source->paused = false;
        curl_easy_pause(source->easy, CURLPAUSE_CONT); /* may call receive() before it returns */
    }
    run(source);
    if (source->length > 0)
        return (int64_t)source->length;
    return !source->running && source->result == CURLE_OK ? 0 : -1;
}

static void set_options(http_source_t *source, const char *url)
{
    CURL *easy = source->easy;
    source->headers = curl_slist_append(NULL, "Accept-Encoding: identity"); /* the image, not its gzip */
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, source->headers);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85 */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L); /* the page of a 404 is no image */
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALLED);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, source->why);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, source);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, source);
}

/* Writes to `why` what is wrong with the response, if anything is. */
static bool is_whole_image(const http_source_t *source, char why[HTTP_WHY])
{
    long code = 0;
    curl_easy_getinfo(source->easy, CURLINFO_RESPONSE_CODE, &code);
    if (http_failure(source) != NULL)
        snprintf(why, HTTP_WHY, "%s", http_failure(source));
    else if (code != 200) /* FAILONERROR accepts part of an image, or a list of choices */
        snprintf(why, HTTP_WHY, "the server answers %ld, not 200", code);
    else if (source->encoded)
        snprintf(why, HTTP_WHY, "the server sends it with a Content-Encoding");
    else
        return true;
    return false;
}

http_source_t *http_open(const char *url, char why[HTTP_WHY])
{
    http_source_t *source = calloc(1, sizeof *source);
    if (source != NULL) {
        source->easy = curl_easy_init();
        source->multi = curl_multi_init();
    }
    if (source == NULL || source->easy == NULL || source->multi == NULL) {
        snprintf(why, HTTP_WHY, "libcurl cannot be set up");
        http_close(source);
        return NULL;
    }
    set_options(source, url);
    curl_multi_add_handle(source->multi, source->easy);
    run(source); /* there is no room yet: the first bytes after the headers pause the transfer */
    if (is_whole_image(source, why))
        return source;
    http_close(source);
    return NULL;
}

void http_close(http_source_t *source)
{
    if (source == NULL)
        return;
    curl_multi_remove_handle(source->multi, source->easy);
    curl_easy_cleanup(source->easy);
    curl_multi_cleanup(source->multi);
    curl_slist_free_all(source->headers);
    free(source);
}

/* ---- Its state --------------------------------------------------------------------------------------------------- */

int64_t http_size(const http_source_t *source)
{
    curl_off_t size = -1;
    curl_easy_getinfo(source->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    return size;
}

bool http_has_end(const http_source_t *source) { return source->has_end; }

double http_rate(const http_source_t *source)
{
    curl_off_t rate = 0;
    curl_easy_getinfo(source->easy, CURLINFO_SPEED_DOWNLOAD_T, &rate);
    return (double)rate;
}

const char *http_failure(const http_source_t *source)
{
    if (source->running || source->result == CURLE_OK)
        return NULL;
    return source->why[0] != '\0' ? source->why : curl_easy_strerror(source->result);
}
