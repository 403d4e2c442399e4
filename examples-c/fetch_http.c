/*
 * fetch_http: a storage agent in small. It brings an image from a web server or an object store, and keeps it.
 *
 *     fetch_http URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX | --md5 HEX] [--driver sqlite|xattr]
 *
 * The first run downloads the image to the output, and caches it on the way. The second one reads it from the cache, and
 * asks the server nothing. Without --output the image is cached only.
 *
 * Build it with:  cc fetch_http.c -limage_cache -lcurl -o fetch_http
 *
 * What is worth copying:
 *   - a tee pulls: it calls a source function for the next bytes. libcurl pushes: it calls a function with them. Its multi
 *     interface puts the one into the other without a thread: the source function runs libcurl until bytes have come;
 *   - a cache that fails (full disk, another writer) never fails the download: the tee goes on and hands the bytes on;
 *   - what is known of the image is said before its first byte. An image of another size or digest is never cached.
 */
#define _POSIX_C_SOURCE 200809L /* for fileno, ftruncate, isatty; the library itself needs C99 only */

#include <curl/curl.h>
#include <image_cache.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, STALLED = 60 /* seconds without a byte, and the server counts as dead */ };
static char chunk[CHUNK];

/* What the command line says. */
typedef struct {
    const char *url, *directory, *id, *output; /* output: a path, "-" for stdout, NULL for none */
    int64_t size;       /* -1 when nobody knows it */
    const char *algorithm, *digest;
    int32_t driver;
} request_t;

/* A transfer that is under way, and the buffer that the next bytes go to. */
typedef struct {
    CURLM *multi;
    CURL *easy;
    char *buffer;
    size_t capacity, length;
    bool held;   /* bytes wait in libcurl for room */
    int running; /* 0 once the transfer has ended, well or badly */
    CURLcode result;
    char why[CURL_ERROR_SIZE];
} download_t;

/* ---- Small things that are not about the cache ------------------------------------------------------------------- */

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static image_cache_status_t own_failure(image_cache_error_t *error, const char *what, const char *why)
{
    error->status = IMAGE_CACHE_ERROR_SOURCE;
    snprintf(error->message, sizeof error->message, "%s: %s", what, why);
    return error->status;
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
    while (download->length == 0 && download->running) {
        curl_multi_poll(download->multi, NULL, 0, 1000, NULL); /* sleeps until something comes */
        pump(download);
    }
    return download->length > 0 ? (int64_t)download->length : download->result == CURLE_OK ? 0 : -1;
}

static image_cache_status_t download_failure(const download_t *download, const char *url, image_cache_error_t *error)
{
    return own_failure(error, url, download->why[0] != '\0' ? download->why : curl_easy_strerror(download->result));
}

/* Sends the request and waits for the answer's headers: with no room for bytes, the first ones pause the transfer. */
static image_cache_status_t start(download_t *download, request_t *request, image_cache_error_t *error)
{
    download->easy = curl_easy_init();
    download->multi = curl_multi_init();
    if (download->easy == NULL || download->multi == NULL)
        return own_failure(error, request->url, "libcurl cannot be set up");
    curl_easy_setopt(download->easy, CURLOPT_URL, request->url);
    curl_easy_setopt(download->easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(download->easy, CURLOPT_FAILONERROR, 1L); /* a page that says 404 is no image */
    curl_easy_setopt(download->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(download->easy, CURLOPT_LOW_SPEED_TIME, (long)STALLED);
    curl_easy_setopt(download->easy, CURLOPT_ERRORBUFFER, download->why);
    curl_easy_setopt(download->easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(download->easy, CURLOPT_WRITEDATA, download);
    curl_multi_add_handle(download->multi, download->easy);

    for (download->running = 1; download->running && !download->held; pump(download))
        curl_multi_poll(download->multi, NULL, 0, 100, NULL);
    if (!download->running && download->result != CURLE_OK)
        return download_failure(download, request->url, error);
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
}

/* ---- Serving: from the server through the tee, or from the cache ------------------------------------------------- */

static image_cache_status_t put(FILE *output, size_t length, const request_t *request, image_cache_error_t *error)
{
    if (output != NULL && (fwrite(chunk, 1, length, output) != length || fflush(output) != 0))
        return own_failure(error, request->output, strerror(errno));
    return IMAGE_CACHE_OK;
}

/* Reads the tee to its end: that is where size and digest are checked, and the image is published. */
static image_cache_status_t drain(image_cache_tee_t *tee, download_t *download, const request_t *request, FILE *output,
                                  image_cache_error_t *error)
{
    uint64_t done = 0;
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = 1; status == IMAGE_CACHE_OK && length > 0;) { /* 0 marks the end */
        status = image_cache_tee_read(tee, chunk, sizeof chunk, &length, error);
        if (status == IMAGE_CACHE_OK)
            status = put(output, length, request, error);
        done += length;
        show_progress(download, done, request->size, status != IMAGE_CACHE_OK || length == 0);
    }
    if (status == IMAGE_CACHE_ERROR_SOURCE && download->result != CURLE_OK)
        download_failure(download, request->url, error); /* the tee only knows that its source failed; we know why */
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB downloaded, %s\n", request->id, mib(done),
                image_cache_tee_is_caching(tee) ? "now cached" : "not cached");
    return status;
}

static image_cache_status_t download_image(image_cache_t *cache, request_t *request, FILE *output,
                                           image_cache_error_t *error)
{
    download_t download = {0};
    image_cache_tee_t *tee = NULL;
    image_cache_status_t status = start(&download, request, error); /* a 404 ends here: the cache has not heard of it */
    if (status == IMAGE_CACHE_OK)
        status = image_cache_tee_open(cache, request->id, next_bytes, &download, &tee, error);
    if (status == IMAGE_CACHE_OK && request->size >= 0)
        status = image_cache_tee_expect_size(tee, (uint64_t)request->size, error);
    if (status == IMAGE_CACHE_OK && request->digest != NULL)
        status = image_cache_tee_expect_digest(tee, request->algorithm, request->digest, error);
    if (status == IMAGE_CACHE_OK)
        status = drain(tee, &download, request, output, error);
    image_cache_tee_close(tee); /* before its end: what has come goes to invalid/, for a look */
    stop(&download);
    return status;
}

static image_cache_status_t serve(image_cache_reader_t *reader, const request_t *request, FILE *output,
                                  image_cache_error_t *error)
{
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = output != NULL; status == IMAGE_CACHE_OK && length > 0;) {
        status = image_cache_read(reader, chunk, sizeof chunk, &length, error);
        if (status == IMAGE_CACHE_OK)
            status = put(output, length, request, error);
    }
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB, from the cache\n", request->id, mib(image_cache_reader_size(reader)));
    return status;
}

static image_cache_status_t run(request_t *request, FILE *output, image_cache_error_t *error)
{
    image_cache_t *cache = NULL;
    image_cache_reader_t *reader = NULL;
    image_cache_options_t *options = image_cache_options_new();
    image_cache_status_t status = image_cache_options_set_driver(options, request->driver, error);
    image_cache_options_set_log(options, print_log, NULL, NULL);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open(request->directory, options, &cache, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open_for_read(cache, request->id, &reader, error);
    if (status == IMAGE_CACHE_OK)
        status = serve(reader, request, output, error);
    else if (status == IMAGE_CACHE_ERROR_NOT_FOUND)
        status = download_image(cache, request, output, error);
    image_cache_options_free(options);
    image_cache_reader_close(reader); /* counts one hit */
    image_cache_close(cache);
    return status;
}

/* ---- The command line -------------------------------------------------------------------------------------------- */

static bool parse(int argc, char **argv, request_t *request)
{
    const char **words[] = {&request->url, &request->directory, &request->id}, *driver = "sqlite", *size = NULL;
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        bool digest = strcmp(argv[i], "--sha256") == 0 || strcmp(argv[i], "--md5") == 0;
        const char **option = digest                             ? &request->digest
                              : strcmp(argv[i], "--output") == 0 ? &request->output
                              : strcmp(argv[i], "--size") == 0   ? &size
                              : strcmp(argv[i], "--driver") == 0 ? &driver
                                                                 : NULL;
        if (digest)
            request->algorithm = argv[i] + 2;
        if (option != NULL ? ++i == argc : argv[i][0] == '-' || count == 3)
            return false;
        *(option != NULL ? option : words[count++]) = argv[i];
    }
    char *end = "";
    request->size = size != NULL ? strtoll(size, &end, 10) : -1;
    request->driver = strcmp(driver, "xattr") == 0 ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE;
    return count == 3 && (size == NULL || (end != size && *end == '\0' && request->size >= 0))
           && (strcmp(driver, "xattr") == 0 || strcmp(driver, "sqlite") == 0);
}

int main(int argc, char **argv)
{
    request_t request = {0};
    if (!parse(argc, argv, &request)) {
        fprintf(stderr, "usage: %s URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX | --md5 HEX]"
                        " [--driver sqlite|xattr]\n", argv[0]);
        return 2;
    }
    bool to_stdout = request.output != NULL && strcmp(request.output, "-") == 0;
    FILE *output = to_stdout ? stdout : request.output != NULL ? fopen(request.output, "wb") : NULL;
    image_cache_error_t error = {0};
    image_cache_status_t status = request.output != NULL && output == NULL
                                      ? own_failure(&error, request.output, strerror(errno))
                                      : run(&request, output, &error);
    if (output != NULL && !to_stdout) {
        /* Nobody shall boot half an image: of a file nothing is left; a device or a pipe does not let itself be cut. */
        if (status != IMAGE_CACHE_OK && ftruncate(fileno(output), 0) != 0)
            fprintf(stderr, "fetch_http: what %s got is not the whole image\n", request.output);
        fclose(output); /* flushed with each chunk */
    }
    if (status == IMAGE_CACHE_OK)
        return 0;
    fprintf(stderr, "fetch_http: %s (%s)\n", error.message, image_cache_status_name(status));
    return 1;
}
