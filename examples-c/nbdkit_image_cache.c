/*
 * nbdkit_image_cache: an nbdkit plugin. A guest boots over NBD while its image still arrives.
 *
 *     nbdkit ./nbdkit_image_cache.so cache=DIR image=ID url=URL size=BYTES sha256=HEX
 *
 * Many servers on one host, one for each guest, share one download. Each byte is requested once, except bytes more than
 * 8 MiB ahead of the download: a guest that reads those does not wait for all bytes in between.
 *
 * Build it with:  cc -shared -fPIC nbdkit_image_cache.c http_source.c -limage_cache -lcurl -lpthread
 *                     -o nbdkit_image_cache.so
 *
 * What is worth copying:
 *   - each connection has a stream of its own, since a stream is used by one thread at a time. nbdkit serializes the
 *     requests of a connection, and serves connections in parallel;
 *   - one thread per server reads a stream to the end, so that the image is verified and cached, whatever the guests
 *     read. It begins after nbdkit has forked, and ends before the plugin is unloaded. If all bytes have come by then, it
 *     verifies them first, for 10 seconds at most;
 *   - bytes are verified at the end only. With another digest, the image is not cached, the server logs an error, and
 *     all later reads fail with EIO.
 */
#define _XOPEN_SOURCE 700 /* POSIX of 2008: clock_gettime, strdup */
#define NBDKIT_API_VERSION 2

#include "http_source.h"

#include <image_cache.h>
#include <nbdkit-plugin.h>

#include <curl/curl.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS

enum {
    PIECE = 256 << 10, /* bytes that the reader thread requests at once; a guest may wait for that long */
    LOOK = 1000,       /* milliseconds until the reader thread looks whether it must end */
    PAUSE = 5,         /* seconds after a failure of the server */
    LINGER = 10        /* seconds in which an ending server verifies an image that has come as a whole */
};

/* The command line. */
static struct {
    char *directory, *image, *url, *sha256;
    int64_t size;
} config = {.size = -1};

static image_cache_t *cache;

/* A stream with its source. */
typedef struct {
    http_source_t *http;
    image_cache_stream_t *stream; /* NULL before the first read, and after a failure */
} fetch_t;

/* The reader thread. `lock` guards the rest. */
static struct {
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool must_end;
    time_t linger_until; /* once it must end; of CLOCK_MONOTONIC */
    bool is_wrong;       /* the image has another digest */
    http_source_t *http; /* of its stream, while there is one */
} reader = {.lock = PTHREAD_MUTEX_INITIALIZER, .end = PTHREAD_COND_INITIALIZER};

/* ---- The image --------------------------------------------------------------------------------------------------- */

static void print_log(void *user_data, int32_t level, const char *message)
{
    (void)user_data;
    if (level <= IMAGE_CACHE_LOG_WARNING)
        nbdkit_error("%s", message);
    else
        nbdkit_debug("%s", message);
}

static image_cache_status_t open_cache(void)
{
    image_cache_error_t error = {0};
    image_cache_options_t *options = image_cache_options_new();
    image_cache_options_set_log(options, print_log, NULL, NULL);
    image_cache_status_t status = image_cache_open(config.directory, options, &cache, &error);
    image_cache_options_free(options);
    if (status != IMAGE_CACHE_OK)
        nbdkit_error("%s", error.message);
    return status;
}

static void close_fetch(fetch_t *fetch)
{
    image_cache_stream_close(fetch->stream); /* first: it uses the source */
    http_close(fetch->http);
    *fetch = (fetch_t){0};
}

static image_cache_status_t open_fetch(fetch_t *fetch, image_cache_error_t *error)
{
    fetch->http = http_open(config.url);
    if (fetch->http == NULL)
        return IMAGE_CACHE_ERROR_NO_MEMORY;
    image_cache_status_t status =
        image_cache_stream_open(cache, config.image, http_read_at, fetch->http, &fetch->stream, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_expect_size(fetch->stream, (uint64_t)config.size, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_expect_digest(fetch->stream, "sha256", config.sha256, error);
    if (status != IMAGE_CACHE_OK)
        close_fetch(fetch);
    return status;
}

static void print_failure(const fetch_t *fetch, image_cache_status_t status, const image_cache_error_t *error)
{
    const char *why = fetch->http != NULL ? http_failure(fetch->http) : NULL;
    bool is_source = status == IMAGE_CACHE_ERROR_SOURCE && why != NULL;
    nbdkit_error("%s: %s (%s)", is_source ? config.url : config.image, is_source ? why : error->message,
                 image_cache_status_name(status));
}

/* ---- The reader thread ------------------------------------------------------------------------------------------- */

static bool must_end(void)
{
    pthread_mutex_lock(&reader.lock);
    bool answer = reader.must_end;
    pthread_mutex_unlock(&reader.lock);
    return answer;
}

static time_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* An image that has come as a whole needs no web server: a client that read it all would otherwise leave it uncached. */
static bool may_read(const fetch_t *fetch)
{
    if (!must_end())
        return true;
    return image_cache_stream_available(fetch->stream) == (uint64_t)config.size && seconds() < reader.linger_until;
}

static void set_http(http_source_t *http)
{
    pthread_mutex_lock(&reader.lock);
    reader.http = http;
    pthread_mutex_unlock(&reader.lock);
}

static void set_wrong(void)
{
    pthread_mutex_lock(&reader.lock);
    reader.is_wrong = true;
    pthread_mutex_unlock(&reader.lock);
}

/* Reads to the end, where the image was verified and published. */
static image_cache_status_t read_whole(fetch_t *fetch, image_cache_error_t *error)
{
    static char piece[PIECE];
    image_cache_status_t status = IMAGE_CACHE_OK;
    int32_t role = IMAGE_CACHE_STREAM_FOLLOWING;
    size_t length = 1;
    while (may_read(fetch) && role != IMAGE_CACHE_STREAM_CACHED && role != IMAGE_CACHE_STREAM_ALONE && length > 0
           && status == IMAGE_CACHE_OK) {
        status = image_cache_stream_read(fetch->stream, piece, sizeof piece, &length, error);
        role = image_cache_stream_role(fetch->stream);
        if (status == IMAGE_CACHE_ERROR_TIMED_OUT) /* another participant fetches, slowly */
            status = IMAGE_CACHE_OK, length = 1;
    }
    if (status == IMAGE_CACHE_OK && role == IMAGE_CACHE_STREAM_ALONE)
        nbdkit_error("%s: not cached and not verified: all reads go to the server", config.image);
    else if (status == IMAGE_CACHE_OK && (role == IMAGE_CACHE_STREAM_CACHED || length == 0))
        nbdkit_debug("%s: cached", config.image);
    return status;
}

static image_cache_status_t read_once(void)
{
    fetch_t fetch = {0};
    image_cache_error_t error = {0};
    image_cache_status_t status = open_fetch(&fetch, &error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_set_timeout(fetch.stream, LOOK, &error);
    set_http(fetch.http);
    if (status == IMAGE_CACHE_OK)
        status = read_whole(&fetch, &error);
    set_http(NULL); /* from here on, nobody stops it */
    if (status == IMAGE_CACHE_ERROR_DIGEST_MISMATCH)
        set_wrong();
    if (status != IMAGE_CACHE_OK && !must_end())
        print_failure(&fetch, status, &error);
    close_fetch(&fetch);
    return status;
}

/* Waits before the next attempt, or until the server ends. */
static void pause_or_end(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PAUSE;
    pthread_mutex_lock(&reader.lock);
    int waited = 0;
    while (!reader.must_end && waited == 0)
        waited = pthread_cond_timedwait(&reader.end, &reader.lock, &until);
    pthread_mutex_unlock(&reader.lock);
}

static void *run_reader(void *unused)
{
    image_cache_status_t status = read_once();
    while (status == IMAGE_CACHE_ERROR_SOURCE && !must_end()) { /* the file has what came so far */
        pause_or_end();
        status = must_end() ? IMAGE_CACHE_OK : read_once();
    }
    return unused;
}

static void end_reader(void)
{
    pthread_mutex_lock(&reader.lock);
    reader.must_end = true;
    reader.linger_until = seconds() + LINGER;
    if (reader.http != NULL)
        http_stop(reader.http);
    pthread_cond_signal(&reader.end);
    pthread_mutex_unlock(&reader.lock);
    if (reader.runs)
        pthread_join(reader.thread, NULL);
    reader.runs = false;
}

/* ---- The plugin -------------------------------------------------------------------------------------------------- */

static void plugin_load(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static void plugin_unload(void)
{
    free(config.directory);
    free(config.image);
    free(config.url);
    free(config.sha256);
    curl_global_cleanup();
}

static int plugin_config(const char *key, const char *value)
{
    char **place = strcmp(key, "cache") == 0    ? &config.directory
                   : strcmp(key, "image") == 0  ? &config.image
                   : strcmp(key, "url") == 0    ? &config.url
                   : strcmp(key, "sha256") == 0 ? &config.sha256
                                                : NULL;
    if (strcmp(key, "size") == 0)
        return (config.size = nbdkit_parse_size(value)) < 0 ? -1 : 0;
    if (place == NULL || *place != NULL) {
        nbdkit_error("%s parameter: %s", place == NULL ? "unknown" : "repeated", key);
        return -1;
    }
    *place = place == &config.directory ? nbdkit_absolute_path(value) : strdup(value); /* a daemon runs in / */
    return *place == NULL ? -1 : 0;
}

static int plugin_config_complete(void)
{
    if (config.directory == NULL || config.image == NULL || config.url == NULL || config.sha256 == NULL
        || config.size < 0) {
        nbdkit_error("it needs cache=, image=, url=, size= and sha256=");
        return -1;
    }
    if (strlen(config.sha256) != 64 || strspn(config.sha256, "0123456789abcdefABCDEF") != 64) {
        nbdkit_error("sha256 must have 64 hexadecimal digits");
        return -1;
    }
    return 0;
}

/* Fails while a person sees it. A handle does not survive the fork, so the cache is opened again after it. */
static int plugin_get_ready(void)
{
    bool cached;
    image_cache_error_t error = {0};
    image_cache_status_t status = open_cache();
    if (status != IMAGE_CACHE_OK)
        return -1;
    status = image_cache_is_cached(cache, config.image, &cached, &error);
    if (status != IMAGE_CACHE_OK)
        nbdkit_error("%s", error.message);
    image_cache_close(cache);
    cache = NULL;
    return status == IMAGE_CACHE_OK ? 0 : -1;
}

static int plugin_after_fork(void)
{
    if (open_cache() != IMAGE_CACHE_OK)
        return -1;
    int why = pthread_create(&reader.thread, NULL, run_reader, NULL);
    reader.runs = why == 0;
    if (why != 0)
        nbdkit_error("no reader thread: %s", strerror(why));
    return why == 0 ? 0 : -1;
}

static void plugin_cleanup(void)
{
    end_reader();
    image_cache_close(cache);
    cache = NULL;
}

static void *plugin_open(int readonly)
{
    (void)readonly; /* it always is */
    return calloc(1, sizeof(fetch_t));
}

static void plugin_close(void *handle)
{
    close_fetch(handle);
    free(handle);
}

static int64_t plugin_get_size(void *handle)
{
    (void)handle;
    return config.size;
}

/* All connections see the same bytes. */
static int plugin_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static bool is_wrong(void)
{
    pthread_mutex_lock(&reader.lock);
    bool answer = reader.is_wrong;
    pthread_mutex_unlock(&reader.lock);
    return answer;
}

static image_cache_status_t read_range(fetch_t *fetch, char *buffer, size_t count, uint64_t offset,
                                       image_cache_error_t *error)
{
    image_cache_status_t status = fetch->stream != NULL ? IMAGE_CACHE_OK : open_fetch(fetch, error);
    size_t length = 1;
    for (size_t done = 0; status == IMAGE_CACHE_OK && done < count && length > 0; done += length)
        status = image_cache_stream_read_at(fetch->stream, offset + done, buffer + done, count - done, &length, error);
    if (status == IMAGE_CACHE_OK && length == 0) { /* nbdkit reads within the size only */
        status = IMAGE_CACHE_ERROR_SIZE_MISMATCH;
        strcpy(error->message, "the server's image is shorter");
    }
    return status;
}

static int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    fetch_t *fetch = handle;
    image_cache_error_t error = {0};
    (void)flags;
    image_cache_status_t status =
        is_wrong() ? IMAGE_CACHE_ERROR_DIGEST_MISMATCH : read_range(fetch, buffer, count, offset, &error);
    if (status == IMAGE_CACHE_OK)
        return 0;
    if (!is_wrong())
        print_failure(fetch, status, &error);
    close_fetch(fetch); /* the next request begins again */
    nbdkit_set_error(EIO);
    return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "image-cache",
    .longname = "image cache plugin",
    .description = "serves an image while it is downloaded, once for all servers of the host",
    .config_help = "cache=DIR      directory of the cache\n"
                   "image=ID       id of the image in the cache\n"
                   "url=URL        where to download it\n"
                   "size=BYTES     its size\n"
                   "sha256=HEX     its digest",
    .load = plugin_load,
    .unload = plugin_unload,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .can_multi_conn = plugin_can_multi_conn,
    .pread = plugin_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
