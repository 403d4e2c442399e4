/*
 * fetch_http: a storage agent in small. It brings an image from a web server or an object store, and keeps it.
 *
 *     fetch_http URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX] [--md5 HEX] [--driver sqlite|xattr]
 *
 * The first run downloads the image to the output, and caches it on the way. The second run reads it from the cache
 * and sends no request. Without --output the image is cached only.
 *
 * Runs at the same time share one download: each byte is requested once, by one of them, and all print it as it comes.
 * A run that dies costs the others nothing. After the death of all, the next run requests the rest.
 *
 * --size and the digests hold for a cached image, too. A cached image with another size or digest is an error, and
 * stays: a person must decide which of two images has the id. A cached image without a stored digest is deleted and
 * downloaded again, once the server answers. Of two digests the cache stores, and compares, the stronger only.
 *
 * Build it with:  cc fetch_http.c http_source.c output.c -limage_cache -lcurl -o fetch_http
 *
 * What is worth copying:
 *   - a stream whose source sends range requests with libcurl, without a thread (see http_source.h);
 *   - a cache failure (a full disk, no directory) never fails the download. The bytes still reach the output, and are
 *     verified. Without an output, caching is the only task, so its failure is the run's;
 *   - every expectation is set before the first byte. An image with another size or digest is never cached. A response
 *     that is no part of the image (any status but 200 and 206), or that is compressed, never reaches the cache;
 *   - a file has its old content or the whole image, never a part (see output.h).
 */
#define _XOPEN_SOURCE 700 /* POSIX of 2008, with its nftw; the library itself needs C99 only */

#include "http_source.h"
#include "output.h"

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

enum { CHUNK = 1 << 20 };
static char chunk[CHUNK];

/* The command line. */
typedef struct {
    const char *url, *directory, *id, *output; /* output: a path, "-" for stdout, NULL for none */
    const char *sha256, *md5;                  /* NULL for no expectation */
    int64_t size;                              /* -1 if unknown */
    int32_t driver;
} request_t;

/* What the stream's source uses and counts. */
typedef struct {
    http_source_t *http;
    const request_t *request;
    uint64_t downloaded;       /* by this process, in bytes */
    image_cache_error_t error; /* why the source failed: the stream has a number only */
} download_t;

/* ---- Helpers that are not about the cache ------------------------------------------------------------------------ */

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static image_cache_status_t set_error(image_cache_error_t *error, image_cache_status_t status, const char *what,
                                      const char *why)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, "%s: %s", what, why);
    return status;
}

/* A terminal shows the line once a second; a log file gets none. */
static void show_progress(uint64_t done, int64_t size, bool last)
{
    static time_t began, shown;
    if (began == 0)
        time(&began);
    if (!isatty(STDERR_FILENO) || (!last && time(NULL) == shown))
        return;
    time(&shown);
    fprintf(stderr, "\r%.1f MiB", mib(done));
    if (size > 0)
        fprintf(stderr, " of %.1f MiB, %.0f%%", mib((uint64_t)size), 100.0 * (double)done / (double)size);
    fprintf(stderr, ", %.1f MiB/s\033[K%s", mib(done) / (shown > began ? difftime(shown, began) : 1), last ? "\n" : "");
}

/* The library prints nothing. Its log has, for example, the reason why a stream could not cache. */
static void print_log(void *user_data, int32_t level, const char *message)
{
    (void)user_data;
    if (level <= IMAGE_CACHE_LOG_WARNING)
        fprintf(stderr, "fetch_http: %s\n", message);
}

static image_cache_status_t write_output(const output_t *output, size_t length, const request_t *request,
                                         image_cache_error_t *error)
{
    int why = output_write(output, chunk, length);
    return why == 0 ? IMAGE_CACHE_OK : set_error(error, IMAGE_CACHE_ERROR_IO, request->output, strerror(why));
}

/* ---- From the server, through the stream ------------------------------------------------------------------------- */

static bool expects_digest(const request_t *request) { return request->sha256 != NULL || request->md5 != NULL; }

/* Whether the response ends after the expected size, where its headers do not say so. */
static bool has_more(http_source_t *http, int64_t size)
{
    char byte;
    return http_size(http) < 0 && http_read_at(http, (uint64_t)size, &byte, 1) > 0;
}

/* Fails if the server's image cannot be the expected one. */
static image_cache_status_t check_server(download_t *download, uint64_t end)
{
    const request_t *request = download->request;
    int64_t size = http_size(download->http);
    if (!http_has_end(download->http) && request->size < 0 && !expects_digest(request))
        return set_error(&download->error, IMAGE_CACHE_ERROR_SOURCE, request->url,
                         "the server does not say where it ends: give --size, --sha256 or --md5");
    if ((request->size >= 0 && size >= 0 && size != request->size)
        || (end == (uint64_t)request->size && has_more(download->http, request->size)))
        return set_error(&download->error, IMAGE_CACHE_ERROR_SIZE_MISMATCH, request->url,
                         "the server's image does not have the expected size");
    return IMAGE_CACHE_OK;
}

/* The stream calls this for bytes that nobody has fetched, one process at a time. */
static int64_t read_server(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    download_t *download = user_data;
    int64_t got = http_read_at(download->http, offset, buffer, capacity);
    const char *why = http_failure(download->http);
    if (got < 0)
        set_error(&download->error, IMAGE_CACHE_ERROR_SOURCE, download->request->url, why != NULL ? why : "no answer");
    if (got < 0 || check_server(download, offset + (uint64_t)got) != IMAGE_CACHE_OK)
        return -1;
    download->downloaded += (uint64_t)got;
    return got;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

/* A stream that cannot cache still verifies digests, but it needs a cache. If the real one cannot be opened, this opens
 * a cache whose directory is removed at once, so it stores nothing. */
static image_cache_status_t open_stand_in(image_cache_t **cache, image_cache_error_t *error)
{
    char directory[] = "/tmp/fetch_http.XXXXXX";
    if (mkdtemp(directory) == NULL)
        return set_error(error, IMAGE_CACHE_ERROR_IO, "no directory to verify the image in", strerror(errno));
    image_cache_status_t status = image_cache_open(directory, NULL, cache, error);
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return status;
}

static image_cache_status_t open_stream(const image_cache_t *cache, download_t *download, image_cache_stream_t **stream,
                                        image_cache_error_t *error)
{
    const request_t *request = download->request;
    image_cache_status_t status = image_cache_stream_open(cache, request->id, read_server, download, stream, error);
    if (status == IMAGE_CACHE_OK && request->size >= 0)
        status = image_cache_stream_expect_size(*stream, (uint64_t)request->size, error);
    if (status == IMAGE_CACHE_OK && request->sha256 != NULL)
        status = image_cache_stream_expect_digest(*stream, "sha256", request->sha256, error);
    if (status == IMAGE_CACHE_OK && request->md5 != NULL)
        status = image_cache_stream_expect_digest(*stream, "md5", request->md5, error);
    return status;
}

static void print_result(const download_t *download, const image_cache_stream_t *stream, uint64_t size)
{
    bool cached = image_cache_stream_role(stream) != IMAGE_CACHE_STREAM_ALONE;
    uint64_t shared = size > download->downloaded ? size - download->downloaded : 0;
    fprintf(stderr, "%s: %.1f MiB downloaded, ", download->request->id, mib(size));
    fputs(cached ? "now cached" : "not cached", stderr);
    if (cached && shared > 0)
        fprintf(stderr, "; %.1f MiB of it by other runs", mib(shared));
    fputc('\n', stderr);
}

/* Reads to the end, where the stream has verified and published the image. */
static image_cache_status_t read_all(image_cache_stream_t *stream, download_t *download, const output_t *output,
                                     image_cache_error_t *error)
{
    const request_t *request = download->request;
    uint64_t done = 0;
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = 1; status == IMAGE_CACHE_OK && length > 0;) {
        status = image_cache_stream_read(stream, chunk, sizeof chunk, &length, error);
        if (status == IMAGE_CACHE_OK)
            status = write_output(output, length, request, error);
        done += length;
        int64_t size = request->size >= 0 ? request->size : http_size(download->http);
        show_progress(done, size, status != IMAGE_CACHE_OK || length == 0);
    }
    if (status == IMAGE_CACHE_ERROR_SOURCE && download->error.status != IMAGE_CACHE_OK)
        status = download->error.status, *error = download->error;
    if (status == IMAGE_CACHE_OK)
        print_result(download, stream, done);
    return status;
}

/* Deletes a cached image that has no digest to compare, once the server has answered. */
static image_cache_status_t make_room(const image_cache_t *cache, const download_t *download,
                                      image_cache_error_t *error)
{
    if (!http_begin(download->http))
        return set_error(error, IMAGE_CACHE_ERROR_SOURCE, download->request->url, http_failure(download->http));
    return image_cache_delete_cached_image(cache, download->request->id, error);
}

/* Without an output, the image must be cached: by this process or another one. */
static image_cache_status_t check_cached(const image_cache_t *cache, const request_t *request,
                                         image_cache_error_t *error)
{
    bool cached = false;
    image_cache_status_t status = image_cache_is_cached(cache, request->id, &cached, error);
    if (status == IMAGE_CACHE_OK && !cached)
        status = set_error(error, IMAGE_CACHE_ERROR_BEING_CACHED, request->id, "it could not be cached");
    return status;
}

/* cache: NULL if it could not be opened. replace: the cached image has no digest to compare. */
static image_cache_status_t download_image(const image_cache_t *cache, bool replace, const request_t *request,
                                           const output_t *output, image_cache_error_t *error)
{
    download_t download = {.http = http_open(request->url), .request = request};
    image_cache_t *stand_in = NULL;
    image_cache_stream_t *stream = NULL;
    image_cache_status_t status = IMAGE_CACHE_OK;
    if (download.http == NULL)
        status = set_error(error, IMAGE_CACHE_ERROR_NO_MEMORY, request->url, "libcurl cannot be set up");
    if (status == IMAGE_CACHE_OK && replace)
        status = make_room(cache, &download, error); /* a 404 changes no cached image */
    if (status == IMAGE_CACHE_OK && cache == NULL)
        status = open_stand_in(&stand_in, error);
    if (status == IMAGE_CACHE_OK)
        status = open_stream(cache != NULL ? cache : stand_in, &download, &stream, error);
    if (status == IMAGE_CACHE_OK)
        status = read_all(stream, &download, output, error);
    image_cache_stream_close(stream); /* before the end, this leaves the file for the next run */
    image_cache_close(stand_in);
    http_close(download.http);
    return status == IMAGE_CACHE_OK && output->file == NULL ? check_cached(cache, request, error) : status;
}

/* ---- From the cache ---------------------------------------------------------------------------------------------- */

/* Compares the cached image with the expectations. The digest is the one that the cache stored at the commit; the
 * image is not hashed again. NOT_FOUND: the cache stored no such digest. */
static image_cache_status_t compare(const image_cache_t *cache, const image_cache_reader_t *reader,
                                    const request_t *request, image_cache_error_t *error)
{
    if (request->size >= 0 && image_cache_reader_size(reader) != (uint64_t)request->size)
        return set_error(error, IMAGE_CACHE_ERROR_SIZE_MISMATCH, request->id,
                         "the cached image does not have the expected size");
    if (!expects_digest(request))
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
                     : set_error(error, IMAGE_CACHE_ERROR_DIGEST_MISMATCH, request->id, why);
    }
    image_cache_list_free(list);
    if (listed == IMAGE_CACHE_OK && status == IMAGE_CACHE_ERROR_NOT_FOUND)
        fprintf(stderr, "%s: cached without this digest, so it is downloaded again\n", request->id);
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
            status = write_output(output, length, request, error);
    }
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB, from the cache\n", request->id, mib(image_cache_reader_size(reader)));
    return status;
}

static image_cache_status_t run(const request_t *request, const output_t *output, image_cache_error_t *error)
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
    } else if (!request_is_wrong && output->file != NULL) { /* the cache failed, the download need not */
        fprintf(stderr, "fetch_http: %s (%s); it goes on without it\n", error->message,
                image_cache_status_name(status));
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
            return false; /* a missing value, a repeated or unknown option, or a fourth word */
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
        fprintf(stderr,
                "usage: %s URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX] [--md5 HEX]"
                " [--driver sqlite|xattr]\n"
                "A cached image with another size or digest is an error. One without a stored digest is"
                " downloaded again.\n",
                argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* a closed pipe fails the output with EPIPE, and the cache is closed cleanly */
    output_t output;
    image_cache_error_t error = {0};
    image_cache_status_t status = IMAGE_CACHE_OK;
    int why = output_open(&output, request.output);
    if (why != 0)
        status = set_error(&error, IMAGE_CACHE_ERROR_IO, request.output, strerror(why));
    else if (output_lies_in(&output, request.directory))
        status = set_error(&error, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, request.output,
                           "the cache's directory cannot hold the output");
    else
        status = run(&request, &output, &error);
    why = output_close(&output, status == IMAGE_CACHE_OK);
    if (status == IMAGE_CACHE_OK && why != 0)
        status = set_error(&error, IMAGE_CACHE_ERROR_IO, request.output, strerror(why));
    if (status == IMAGE_CACHE_OK)
        return 0;
    fprintf(stderr, "fetch_http: %s (%s)\n", error.message, image_cache_status_name(status));
    return 1;
}
