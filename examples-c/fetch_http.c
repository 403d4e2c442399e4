/*
 * fetch_http: a storage agent in small. It brings an image from a web server or an object store, and keeps it.
 *
 *     fetch_http URL CACHE_DIR ID [--output FILE|-] [--size N] [--sha256 HEX] [--md5 HEX] [--driver sqlite|xattr]
 *
 * The first run downloads the image to the output, and caches it on the way. The second run reads it from the cache
 * and sends no request. Without --output the image is cached only.
 *
 * --size and the digests hold for a cached image, too. A cached image with another size or digest is an error, and
 * stays: a person must decide which of two images has the id. A cached image without a stored digest is deleted and
 * downloaded again, once the server answers. Of two digests the cache stores, and compares, the stronger only.
 *
 * Build it with:  cc fetch_http.c http_source.c output.c -limage_cache -lcurl -o fetch_http
 *
 * What is worth copying:
 *   - a tee that reads from libcurl without a thread (see http_source.h);
 *   - a cache failure (a full disk, another writer, no directory) never fails the download. The bytes still reach the
 *     output, and are checked. Without an output, caching is the only task, so its failure is the run's;
 *   - every expectation is set before the first byte. An image with another size or digest is never cached. A response
 *     that is not a whole image (any status but 200), or that is compressed, never reaches the cache;
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
static void show_progress(const http_source_t *source, uint64_t done, int64_t size, bool last)
{
    static time_t shown;
    if (!isatty(STDERR_FILENO) || (!last && time(NULL) == shown))
        return;
    time(&shown);
    fprintf(stderr, "\r%.1f MiB", mib(done));
    if (size > 0)
        fprintf(stderr, " of %.1f MiB, %.0f%%", mib((uint64_t)size), 100.0 * (double)done / (double)size);
    fprintf(stderr, ", %.1f MiB/s\033[K%s", http_rate(source) / (1 << 20), last ? "\n" : "");
}

/* The library prints nothing. Its log has, for example, the reason why a tee could not cache. */
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

/* ---- From the server, through the tee ---------------------------------------------------------------------------- */

static bool expects_digest(const request_t *request) { return request->sha256 != NULL || request->md5 != NULL; }

static image_cache_status_t open_source(http_source_t **source, request_t *request, image_cache_error_t *error)
{
    char why[HTTP_WHY];
    *source = http_open(request->url, why);
    if (*source == NULL)
        return set_error(error, IMAGE_CACHE_ERROR_SOURCE, request->url, why);
    if (!http_has_end(*source) && request->size < 0 && !expects_digest(request))
        return set_error(error, IMAGE_CACHE_ERROR_SOURCE, request->url,
                         "the server does not say where it ends: give --size, --sha256 or --md5");
    if (request->size < 0)
        request->size = http_size(*source);
    return IMAGE_CACHE_OK;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

/* A tee that cannot cache still checks digests, but it needs a cache. If the real one cannot be opened, this opens a
 * cache whose directory is removed at once, so it stores nothing. (Or use the digests of your TLS library.) */
static image_cache_status_t open_stand_in(image_cache_t **cache, image_cache_error_t *error)
{
    char directory[] = "/tmp/fetch_http.XXXXXX";
    if (mkdtemp(directory) == NULL)
        return set_error(error, IMAGE_CACHE_ERROR_IO, "no directory to check the digest in", strerror(errno));
    image_cache_status_t status = image_cache_open(directory, NULL, cache, error);
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return status;
}

static image_cache_status_t open_tee(const image_cache_t *cache, http_source_t *source, const request_t *request,
                                     image_cache_tee_t **tee, image_cache_error_t *error)
{
    image_cache_status_t status = image_cache_tee_open(cache, request->id, http_read, source, tee, error);
    if (status == IMAGE_CACHE_OK && request->size >= 0)
        status = image_cache_tee_expect_size(*tee, (uint64_t)request->size, error);
    if (status == IMAGE_CACHE_OK && request->sha256 != NULL)
        status = image_cache_tee_expect_digest(*tee, "sha256", request->sha256, error);
    if (status == IMAGE_CACHE_OK && request->md5 != NULL)
        status = image_cache_tee_expect_digest(*tee, "md5", request->md5, error);
    return status;
}

/* The next bytes from the tee, or from the source if the tee is NULL. A length of 0 marks the end. */
static image_cache_status_t read_chunk(image_cache_tee_t *tee, http_source_t *source, size_t *length,
                                       image_cache_error_t *error)
{
    if (tee != NULL)
        return image_cache_tee_read(tee, chunk, sizeof chunk, length, error);
    int64_t got = http_read(source, chunk, sizeof chunk);
    *length = got > 0 ? (size_t)got : 0;
    return got >= 0 ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_SOURCE;
}

/* Reads to the end, where the tee checks size and digest and publishes the image. Without a tee only the size is
 * checked. */
static image_cache_status_t download_all(image_cache_tee_t *tee, http_source_t *source, const request_t *request,
                                         const output_t *output, image_cache_error_t *error)
{
    uint64_t done = 0;
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (size_t length = 1; status == IMAGE_CACHE_OK && length > 0;) {
        status = read_chunk(tee, source, &length, error);
        if (status == IMAGE_CACHE_OK)
            status = write_output(output, length, request, error);
        done += length;
        show_progress(source, done, request->size, status != IMAGE_CACHE_OK || length == 0);
    }
    if (status == IMAGE_CACHE_ERROR_SOURCE && http_failure(source) != NULL) /* the tee has no reason, the source has */
        set_error(error, IMAGE_CACHE_ERROR_SOURCE, request->url, http_failure(source));
    if (status == IMAGE_CACHE_OK && tee == NULL && request->size >= 0 && done != (uint64_t)request->size)
        status = set_error(error, IMAGE_CACHE_ERROR_SIZE_MISMATCH, request->url, "it does not have the expected size");
    if (status == IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %.1f MiB downloaded, %s\n", request->id, mib(done),
                image_cache_tee_is_caching(tee) ? "now cached" : "not cached");
    return status;
}

/* cache: NULL if it could not be opened. replace: the cached image has no digest to compare. */
static image_cache_status_t download_image(const image_cache_t *cache, bool replace, request_t *request,
                                           const output_t *output, image_cache_error_t *error)
{
    http_source_t *source = NULL;
    image_cache_t *stand_in = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_status_t status = open_source(&source, request, error); /* a 404 changes no cached image */
    if (status == IMAGE_CACHE_OK && replace)
        image_cache_delete_cached_image(cache, request->id, NULL); /* if this fails, the tee does not cache */
    if (status == IMAGE_CACHE_OK && cache == NULL && expects_digest(request))
        status = open_stand_in(&stand_in, error);
    if (status == IMAGE_CACHE_OK && (cache != NULL || stand_in != NULL))
        status = open_tee(cache != NULL ? cache : stand_in, source, request, &tee, error);
    if (status == IMAGE_CACHE_OK)
        status = download_all(tee, source, request, output, error);
    bool cached = image_cache_tee_is_caching(tee);
    image_cache_tee_close(tee); /* before the end, this moves the unfinished file to invalid/ */
    image_cache_close(stand_in);
    http_close(source);
    if (status == IMAGE_CACHE_OK && output->file == NULL && !cached) /* another process may have cached it meanwhile */
        status = image_cache_is_cached(cache, request->id, &cached, error);
    if (status == IMAGE_CACHE_OK && output->file == NULL && !cached)
        status = set_error(error, IMAGE_CACHE_ERROR_BEING_CACHED, request->id, "it could not be cached");
    return status;
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
