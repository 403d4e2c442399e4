/*
 * fetch_http: a storage agent in small. It brings an image from a web server or an object store, and keeps it.
 *
 *     fetch_http URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX] [--md5 HEX] [--driver sqlite|xattr]
 *
 * The first run downloads the image to the output, and caches it on the way. The second one reads it from the cache, and
 * asks the server nothing. Without --output the image is cached only.
 *
 * --size and the digests hold for a cached image as well. One of another size or digest is not served, and stays: one id
 * was given to two images, and that is for a person to settle. One that was cached without the digest is deleted once the
 * server answers, and fetched anew. The cache keeps the stronger of two digests, so that one decides.
 *
 * Build it with:  cc fetch_http.c output.c -limage_cache -lcurl -o fetch_http
 *
 * What is worth copying:
 *   - a tee pulls: it calls a source function for the next bytes. libcurl pushes: it calls a function with them. Its multi
 *     interface puts the one into the other without a thread: the source function runs libcurl until bytes have come;
 *   - a cache that fails (a full disk, another writer, no directory) never fails the download: the bytes are handed on, and
 *     checked, without it. Only when there is no output, and the cache is all that was asked for, is its failure the run's;
 *   - what is known of the image is said before its first byte. An image of another size or digest is never cached, and an
 *     answer that is no whole image (any but 200), or a compressed one, does not get as far as the cache;
 *   - a file has its old content, or the whole image, and at no time half of it (see output.h).
 */
#define _XOPEN_SOURCE 700 /* POSIX of 2008, with its nftw; the library itself needs C99 only */

#include "output.h"

#include <curl/curl.h>
#include <image_cache.h>

#include <ctype.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, STALLED = 60 /* seconds without a byte, and the server counts as dead */, REDIRECTIONS = 5 };
static char chunk[CHUNK];

/* What the command line says. */
typedef struct {
    const char *url, *directory, *id, *output; /* output: a path, "-" for stdout, NULL for none */
    const char *sha256, *md5;                  /* NULL when not expected */
    int64_t size;                              /* -1 when nobody knows it */
    int32_t driver;
} request_t;

/* A transfer that is under way, and the buffer that the next bytes go to. */
typedef struct {
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    char *buffer;
    size_t capacity, length;
    bool held;    /* bytes wait in libcurl for room */
    bool encoded; /* the answer's bytes are not the image's */
    bool has_end; /* its end can be told from a connection that broke */
    int running;  /* 0 once the transfer has ended, well or badly */
    CURLcode result;
    char why[CURL_ERROR_SIZE];
} download_t;

/* ---- Small things that are not about the cache ------------------------------------------------------------------- */

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static image_cache_status_t own_failure(image_cache_error_t *error, image_cache_status_t status, const char *what,
                                        const char *why)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, "%s: %s", what, why);
    return status;
}

/* Somebody who watches a terminal sees the line change once a second; a log file gets none of it. */
static void show_progress(const download_t *download, uint64_t done, int64_t size, bool last)
{
    static time_t shown;
    if (!isatty(STDERR_FILENO) || (!last && time(NULL) == shown))
        return;
    time(&shown);
    curl_off_t rate = 0;
    curl_easy_getinfo(download->easy, CURLINFO_SPEED_DOWNLOAD_T, &rate);
    fprintf(stderr, "\r%.1f MiB", mib(done));
    if (size > 0)
        fprintf(stderr, " of %.1f MiB, %.0f%%", mib((uint64_t)size), 100.0 * (double)done / (double)size);
    fprintf(stderr, ", %.1f MiB/s\033[K%s", mib((uint64_t)rate), last ? "\n" : "");
}

/* The library prints nothing. Its log says, for one, why an image that is handed on could not be cached. */
static void print_log(void *user_data, int32_t level, const char *message)
{
    (void)user_data;
    if (level <= IMAGE_CACHE_LOG_WARNING)
        fprintf(stderr, "fetch_http: %s\n", message);
}

static image_cache_status_t put(const output_t *output, size_t length, const request_t *request, image_cache_error_t *error)
{
    int why = output_write(output, chunk, length);
    return why == 0 ? IMAGE_CACHE_OK : own_failure(error, IMAGE_CACHE_ERROR_IO, request->output, strerror(why));
}

/* ---- The download: libcurl's push turned into a pull ------------------------------------------------------------- */

/* libcurl calls this with bytes, at most CURL_MAX_WRITE_SIZE of them. Those for which there is no room stay with libcurl,
 * and come again when it is told to go on: a slow reader slows the server down, and nothing piles up here. */
static size_t receive(char *bytes, size_t one, size_t length, void *user_data)
{
    download_t *download = user_data;
    (void)one; /* always 1 */
    download->held = length > download->capacity - download->length;
    if (download->held)
        return CURL_WRITEFUNC_PAUSE;
    memcpy(download->buffer + download->length, bytes, length);
    download->length += length;
    return length;
}

/* Whether a header line, which does not end with a NUL, is that header with another value than that. */
static bool header_is_not(const char *line, size_t length, const char *name, const char *value)
{
    size_t at = strlen(name);
    if (length < at || strncasecmp(line, name, at) != 0)
        return false;
    while (at < length && isspace((unsigned char)line[at]))
        at++;
    return at < length && (length - at < strlen(value) || strncasecmp(line + at, value, strlen(value)) != 0);
}

/* libcurl calls this with each header line, of redirections too. */
static size_t note_header(char *line, size_t one, size_t length, void *user_data)
{
    download_t *download = user_data;
    (void)one; /* always 1 */
    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) /* another answer begins */
        download->encoded = false, download->has_end = length >= 7 && memcmp(line, "HTTP/1.", 7) != 0;
    if (header_is_not(line, length, "Content-Encoding:", "identity"))
        download->encoded = true;
    if (header_is_not(line, length, "Content-Length:", "none") || header_is_not(line, length, "Transfer-Encoding:", "identity"))
        download->has_end = true;
    return length;
}

/* Runs the transfer once, and notes how it ended, if it did. */
static void pump(download_t *download)
{
    if (curl_multi_perform(download->multi, &download->running) != CURLM_OK)
        download->running = 0, download->result = CURLE_FAILED_INIT;
    CURLMsg *message = curl_multi_info_read(download->multi, &(int){0});
    if (message != NULL && message->msg == CURLMSG_DONE)
        download->result = message->data.result;
}

/* The tee's source: the next bytes, 0 at the end, -1 for a failure. What came before a failure is handed on first. */
static int64_t next_bytes(void *user_data, void *buffer, size_t capacity)
{
    download_t *download = user_data;
    download->buffer = buffer, download->capacity = capacity, download->length = 0;
    if (download->held)
        curl_easy_pause(download->easy, CURLPAUSE_CONT); /* may deliver what was held back, from within */
    for (pump(download); download->length == 0 && download->running; pump(download))
        curl_multi_poll(download->multi, NULL, 0, 1000, NULL); /* sleeps until something comes */
    return download->length > 0 ? (int64_t)download->length : download->result == CURLE_OK ? 0 : -1;
}

static image_cache_status_t download_failure(const download_t *download, const char *url, image_cache_error_t *error)
{
    return own_failure(error, IMAGE_CACHE_ERROR_SOURCE, url,
                       download->why[0] != '\0' ? download->why : curl_easy_strerror(download->result));
}

static void set_up(download_t *download, const char *url)
{
    CURL *easy = download->easy;
    download->headers = curl_slist_append(NULL, "Accept-Encoding: identity"); /* the image, and not its gzip */
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, download->headers);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85 */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L); /* a page that says 404 is no image */
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALLED);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, download->why);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, note_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, download);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, download);
}

/* Sends the request and waits for the answer's headers: with no room for bytes, the first ones pause the transfer. */
static image_cache_status_t start(download_t *download, request_t *request, image_cache_error_t *error)
{
    download->easy = curl_easy_init();
    download->multi = curl_multi_init();
    if (download->easy == NULL || download->multi == NULL)
        return own_failure(error, IMAGE_CACHE_ERROR_SOURCE, request->url, "libcurl cannot be set up");
    set_up(download, request->url);
    curl_multi_add_handle(download->multi, download->easy);

    for (pump(download); download->running && !download->held; pump(download))
        curl_multi_poll(download->multi, NULL, 0, 1000, NULL);
    if (!download->running && download->result != CURLE_OK)
        return download_failure(download, request->url, error);
    long code = 0;
    curl_easy_getinfo(download->easy, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200) { /* a part, a list of choices, a promise: FAILONERROR takes them for good */
        char why[64];
        snprintf(why, sizeof why, "the server answers %ld, not 200", code);
        return own_failure(error, IMAGE_CACHE_ERROR_SOURCE, request->url, why);
    }
    if (download->encoded)
        return own_failure(error, IMAGE_CACHE_ERROR_SOURCE, request->url, "the server sends it with a Content-Encoding");
    if (!download->has_end && request->size < 0 && request->sha256 == NULL && request->md5 == NULL)
        return own_failure(error, IMAGE_CACHE_ERROR_SOURCE, request->url,
                           "the server does not say where it ends: give --size, --sha256 or --md5");
    curl_off_t length = -1;
    curl_easy_getinfo(download->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (request->size < 0)
        request->size = length;
    return IMAGE_CACHE_OK;
}

static void stop(download_t *download)
{
    curl_multi_remove_handle(download->multi, download->easy);
    curl_easy_cleanup(download->easy);
    curl_multi_cleanup(download->multi);
    curl_slist_free_all(download->headers);
}

/* ---- From the server, through the tee ---------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

/* A tee that cannot cache still checks digests, but there is no tee without a cache. When the real one cannot be opened, a
 * cache whose folder is gone already takes its place: it keeps nothing. (Or use the digests of your TLS library.) */
static image_cache_status_t open_stand_in(image_cache_t **cache, image_cache_error_t *error)
{
    char folder[] = "/tmp/fetch_http.XXXXXX";
    if (mkdtemp(folder) == NULL)
        return own_failure(error, IMAGE_CACHE_ERROR_IO, "no place to check the digest in", strerror(errno));
    image_cache_status_t status = image_cache_open(folder, NULL, cache, error);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return status;
}

static image_cache_status_t open_tee(const image_cache_t *cache, download_t *download, const request_t *request,
                                     image_cache_tee_t **tee, image_cache_error_t *error)
{
    image_cache_status_t status = image_cache_tee_open(cache, request->id, next_bytes, download, tee, error);
    if (status == IMAGE_CACHE_OK && request->size >= 0)
        status = image_cache_tee_expect_size(*tee, (uint64_t)request->size, error);
    if (status == IMAGE_CACHE_OK && request->sha256 != NULL)
        status = image_cache_tee_expect_digest(*tee, "sha256", request->sha256, error);
    if (status == IMAGE_CACHE_OK && request->md5 != NULL)
        status = image_cache_tee_expect_digest(*tee, "md5", request->md5, error);
    return status;
}

/* Reads the tee to its end: that is where size and digest are checked, and the image is published. Without a tee (NULL)
 * there is only the size to check. */
static image_cache_status_t drain(image_cache_tee_t *tee, download_t *download, const request_t *request,
                                  const output_t *output, image_cache_error_t *error)
{
    uint64_t done = 0;
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = 1; status == IMAGE_CACHE_OK && length > 0;) { /* 0 marks the end */
        if (tee != NULL) {
            status = image_cache_tee_read(tee, chunk, sizeof chunk, &length, error);
        } else {
            int64_t got = next_bytes(download, chunk, sizeof chunk);
            length = got > 0 ? (size_t)got : 0;
            status = got >= 0 ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_SOURCE;
        }
        if (status == IMAGE_CACHE_OK)
            status = put(output, length, request, error);
        done += length;
        show_progress(download, done, request->size, status != IMAGE_CACHE_OK || length == 0);
    }
    if (status == IMAGE_CACHE_ERROR_SOURCE && download->result != CURLE_OK)
        download_failure(download, request->url, error); /* the tee only knows that its source failed; we know why */
    if (status == IMAGE_CACHE_OK && tee == NULL && request->size >= 0 && done != (uint64_t)request->size)
        status = own_failure(error, IMAGE_CACHE_ERROR_SIZE_MISMATCH, request->url, "it is not of the expected size");
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB downloaded, %s\n", request->id, mib(done),
                image_cache_tee_is_caching(tee) ? "now cached" : "not cached");
    return status;
}

/* cache: NULL if it could not be opened. replace: the image is cached, but not good enough. */
static image_cache_status_t download_image(const image_cache_t *cache, bool replace, request_t *request,
                                           const output_t *output, image_cache_error_t *error)
{
    download_t download = {0};
    image_cache_t *stand_in = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_status_t status = start(&download, request, error); /* a 404 ends here: the cache has not heard of it */
    if (status == IMAGE_CACHE_OK && replace)
        image_cache_delete_cached_image(cache, request->id, NULL); /* should it fail, nothing is cached */
    if (status == IMAGE_CACHE_OK && cache == NULL && (request->sha256 != NULL || request->md5 != NULL))
        status = open_stand_in(&stand_in, error);
    if (status == IMAGE_CACHE_OK && (cache != NULL || stand_in != NULL))
        status = open_tee(cache != NULL ? cache : stand_in, &download, request, &tee, error);
    if (status == IMAGE_CACHE_OK)
        status = drain(tee, &download, request, output, error);
    bool cached = image_cache_tee_is_caching(tee);
    image_cache_tee_close(tee); /* before its end: what has come goes to invalid/, for a look */
    image_cache_close(stand_in);
    stop(&download);
    if (status == IMAGE_CACHE_OK && output->file == NULL && !cached) /* by another process meanwhile, perhaps */
        status = image_cache_is_cached(cache, request->id, &cached, error);
    if (status == IMAGE_CACHE_OK && output->file == NULL && !cached)
        status = own_failure(error, IMAGE_CACHE_ERROR_BEING_CACHED, request->id, "it could not be cached");
    return status;
}

/* ---- From the cache ---------------------------------------------------------------------------------------------- */

/* Is the cached image the expected one? It was hashed when it was cached, and the digest was noted: it is not hashed again.
 * NOT_FOUND: nobody can tell. */
static image_cache_status_t compare(const image_cache_t *cache, const image_cache_reader_t *reader,
                                    const request_t *request, image_cache_error_t *error)
{
    if (request->size >= 0 && image_cache_reader_size(reader) != (uint64_t)request->size)
        return own_failure(error, IMAGE_CACHE_ERROR_SIZE_MISMATCH, request->id,
                           "the cached image is not of the expected size");
    if (request->sha256 == NULL && request->md5 == NULL)
        return IMAGE_CACHE_OK;
    const char *prefix = request->sha256 != NULL ? "sha256:" : "md5:";
    const char *hex = request->sha256 != NULL ? request->sha256 : request->md5;
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry;
    image_cache_status_t listed = image_cache_list_cached(cache, &list, error), status = IMAGE_CACHE_ERROR_NOT_FOUND;
    while (image_cache_list_next(list, &entry)) {
        if (strcmp(entry->image_id, request->id) != 0 || entry->digest == NULL
            || strncmp(entry->digest, prefix, strlen(prefix)) != 0)
            continue;
        char why[200];
        snprintf(why, sizeof why, "the cached image has another digest, %s", entry->digest);
        status = strcasecmp(entry->digest + strlen(prefix), hex) == 0
                     ? IMAGE_CACHE_OK
                     : own_failure(error, IMAGE_CACHE_ERROR_DIGEST_MISMATCH, request->id, why);
    }
    image_cache_list_free(list);
    if (listed == IMAGE_CACHE_OK && status == IMAGE_CACHE_ERROR_NOT_FOUND)
        fprintf(stderr, "%s: cached without this digest, so it is fetched anew\n", request->id);
    return listed == IMAGE_CACHE_OK ? status : listed;
}

static image_cache_status_t look_up(const request_t *request, image_cache_t **cache, image_cache_reader_t **reader,
                                    image_cache_error_t *error)
{
    image_cache_options_t *options = image_cache_options_new();
    image_cache_status_t status = image_cache_options_set_driver(options, request->driver, error);
    image_cache_options_set_log(options, print_log, NULL, NULL);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open(request->directory, options, cache, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open_for_read(*cache, request->id, reader, error);
    if (status == IMAGE_CACHE_OK)
        status = compare(*cache, *reader, request, error);
    image_cache_options_free(options);
    return status;
}

static image_cache_status_t serve(image_cache_reader_t *reader, const request_t *request, const output_t *output,
                                  image_cache_error_t *error)
{
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = output->file != NULL; status == IMAGE_CACHE_OK && length > 0;) {
        status = image_cache_read(reader, chunk, sizeof chunk, &length, error);
        if (status == IMAGE_CACHE_OK)
            status = put(output, length, request, error);
    }
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB, from the cache\n", request->id, mib(image_cache_reader_size(reader)));
    return status;
}

static image_cache_status_t run(request_t *request, const output_t *output, image_cache_error_t *error)
{
    image_cache_t *cache = NULL;
    image_cache_reader_t *reader = NULL;
    image_cache_status_t status = look_up(request, &cache, &reader, error);
    bool request_is_wrong = status == IMAGE_CACHE_ERROR_SIZE_MISMATCH || status == IMAGE_CACHE_ERROR_DIGEST_MISMATCH
                            || status == IMAGE_CACHE_ERROR_INVALID_IMAGE_ID;
    if (status == IMAGE_CACHE_OK) {
        status = serve(reader, request, output, error);
    } else if (status == IMAGE_CACHE_ERROR_NOT_FOUND) {
        status = download_image(cache, reader != NULL, request, output, error);
    } else if (!request_is_wrong && output->file != NULL) { /* the cache failed; the image is wanted all the same */
        fprintf(stderr, "fetch_http: %s (%s); it goes on without it\n", error->message, image_cache_status_name(status));
        status = download_image(cache, false, request, output, error);
    }
    image_cache_reader_close(reader); /* counts one hit */
    image_cache_close(cache);
    return status;
}

/* ---- The command line -------------------------------------------------------------------------------------------- */

static bool is_digest(const char *text, size_t digits)
{
    return text == NULL || (strlen(text) == digits && strspn(text, "0123456789abcdefABCDEF") == digits);
}

static bool parse(int argc, char **argv, request_t *request)
{
    const char **words[] = {&request->url, &request->directory, &request->id}, *driver = NULL, *size = NULL;
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        const char **place = strcmp(argv[i], "--output") == 0   ? &request->output
                             : strcmp(argv[i], "--sha256") == 0 ? &request->sha256
                             : strcmp(argv[i], "--md5") == 0    ? &request->md5
                             : strcmp(argv[i], "--size") == 0   ? &size
                             : strcmp(argv[i], "--driver") == 0 ? &driver
                                                                : NULL;
        if (place != NULL ? ++i == argc || *place != NULL : argv[i][0] == '-' || count == 3)
            return false; /* a value is missing, an option is given twice; what is this? */
        *(place != NULL ? place : words[count++]) = argv[i];
    }
    char *end = "";
    errno = 0;
    request->size = size != NULL ? strtoll(size, &end, 10) : -1;
    bool xattr = driver != NULL && strcmp(driver, "xattr") == 0;
    request->driver = xattr ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE;
    return count == 3 && is_digest(request->sha256, 64) && is_digest(request->md5, 32)
           && (size == NULL || (isdigit((unsigned char)*size) && *end == '\0' && errno == 0))
           && (driver == NULL || xattr || strcmp(driver, "sqlite") == 0);
}

int main(int argc, char **argv)
{
    request_t request = {0};
    if (!parse(argc, argv, &request)) {
        fprintf(stderr, "usage: %s URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX] [--md5 HEX]"
                        " [--driver sqlite|xattr]\n"
                        "A cached image of another size or digest is an error; one cached without the digest is fetched"
                        " anew.\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* a pipe that nobody reads any more is an output that fails: the cache is closed, too */
    output_t output;
    image_cache_error_t error = {0};
    image_cache_status_t status = IMAGE_CACHE_OK;
    int why = output_open(&output, request.output);
    if (why != 0)
        status = own_failure(&error, IMAGE_CACHE_ERROR_IO, request.output, strerror(why));
    else if (output_lies_in(&output, request.directory))
        status = own_failure(&error, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, request.output, "a file there is the cache's own");
    else
        status = run(&request, &output, &error);
    why = output_close(&output, status == IMAGE_CACHE_OK);
    if (status == IMAGE_CACHE_OK && why != 0)
        status = own_failure(&error, IMAGE_CACHE_ERROR_IO, request.output, strerror(why));
    if (status == IMAGE_CACHE_OK)
        return 0;
    fprintf(stderr, "fetch_http: %s (%s)\n", error.message, image_cache_status_name(status));
    return 1;
}
