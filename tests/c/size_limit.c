/*
 * A process with a file size limit (ulimit -f) is not killed by SIGXFSZ, whatever file of the library exceeds the
 * limit: an image, SQLite's database, its log or its shared memory. The call returns a status, or works without that
 * file. Without the limit, every image that was reported as cached is whole.
 */
#include <image_cache.h>

#include "check.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { IMAGES = 12, LARGEST = 96 * 1024 };

static char bytes[LARGEST];

/* Some lengths are below most limits, some above. */
static size_t length_of(int image) { return (size_t)(image % 2 ? 512 : 3000) << (image % 6); }

static const char *id_of(int image)
{
    static char id[16];
    snprintf(id, sizeof id, "image-%d", image);
    return id;
}

static void fill(int image, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(image * 31 + (int)(i % 251));
}

/* The statuses of a call that may exceed the limit. */
static bool is_allowed(image_cache_status_t status)
{
    return status == IMAGE_CACHE_OK || status == IMAGE_CACHE_ERROR_IO || status == IMAGE_CACHE_ERROR_INDEX
           || status == IMAGE_CACHE_ERROR_NO_SPACE;
}
#define MAY_FAIL(call) CHECK(is_allowed(status = (call)))

static bool try_to_cache(image_cache_t *cache, int image)
{
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status;
    fill(image, length_of(image));
    MAY_FAIL(image_cache_begin_write(cache, id_of(image), &writer, &check_error));
    if (status != IMAGE_CACHE_OK)
        return false;
    MAY_FAIL(image_cache_write_chunk(writer, bytes, length_of(image), &check_error));
    image_cache_status_t written = status;
    MAY_FAIL(image_cache_commit(writer, &check_error));
    CHECK(written == IMAGE_CACHE_OK || status == written); /* not published after a failed write */
    return status == IMAGE_CACHE_OK;
}

/* A tee delivers every byte, whether it can cache them or not. */
static bool try_to_tee(image_cache_t *cache, int image)
{
    char text[40000], buffer[4096];
    memset(text, 'a' + image, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    text_source_t source = {.text = text, .step = 1000};
    image_cache_tee_t *tee = NULL;
    size_t length, total = 0;
    OK(image_cache_tee_open(cache, "teed", read_text, &source, &tee, &check_error));
    do {
        OK(image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 0 || memcmp(buffer, text + total, length) == 0);
        total += length;
    } while (length > 0);
    CHECK(total == sizeof text - 1);
    bool cached = image_cache_tee_is_caching(tee);
    image_cache_tee_close(tee);
    return cached;
}

/* So does a stream. */
static void stream_every_byte(image_cache_t *cache)
{
    char text[40000], buffer[4096];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)('a' + i / 1000 % 26);
    text[sizeof text - 1] = '\0';
    text_source_t source = {.text = text, .step = 4000};
    image_cache_stream_t *stream = NULL;
    size_t length, total = 0;
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &source, &stream, &check_error));
    do {
        OK(image_cache_stream_read(stream, buffer, sizeof buffer, &length, &check_error));
        CHECK(total + length < sizeof text && memcmp(buffer, text + total, length) == 0);
        total += length;
    } while (length > 0);
    CHECK(total == sizeof text - 1);
    image_cache_stream_close(stream);
}

/* Makes every call that writes, under the limit. Writes the cached images to the pipe, as bits. */
static void run_with_limit(const char *name, rlim_t limit, int output)
{
    struct rlimit size = {limit, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &size) == 0);
    image_cache_options_t *options = new_options();
    image_cache_t *cache = NULL;
    image_cache_status_t status;
    unsigned cached = 0;
    bool queued;
    uint64_t number, more;
    MAY_FAIL(image_cache_open(in_directory("%s", name), options, &cache, &check_error));
    for (int round = 0; cache != NULL && round < 2; round++) {
        for (int image = 0; image < IMAGES; image++) {
            if ((cached & 1U << image) == 0 && try_to_cache(cache, image))
                cached |= 1U << image;
            image_cache_reader_t *reader = NULL;
            if ((cached & 1U << image) != 0) {
                OK(image_cache_open_for_read(cache, id_of(image), &reader, &check_error));
                image_cache_reader_close(reader);
            }
        }
        MAY_FAIL(image_cache_queue_image(cache, "later", &queued, &check_error));
        if (try_to_tee(cache, 1))
            OK(image_cache_delete_cached_image(cache, "teed", &check_error));
        stream_every_byte(cache);
        MAY_FAIL(image_cache_delete_cached_image(cache, "streamed", &check_error));
        MAY_FAIL(image_cache_delete_cached_image(cache, id_of(0), &check_error));
        if (status == IMAGE_CACHE_OK)
            cached &= ~1U;
        MAY_FAIL(image_cache_get_cache_size(cache, &number, &check_error));
        MAY_FAIL(image_cache_prune(cache, &number, &more, &check_error));
        MAY_FAIL(image_cache_clean(cache, 0, &number, &check_error));
        /* The next open finds files. */
        image_cache_close(cache);
        cache = NULL;
        MAY_FAIL(image_cache_open(in_directory("%s", name), options, &cache, &check_error));
    }
    image_cache_close(cache);
    image_cache_options_free(options);
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ)); /* none is pending either */
    CHECK(write(output, &cached, sizeof cached) == (ssize_t)sizeof cached);
}

static void check_without_limit(const char *name, unsigned cached)
{
    image_cache_t *cache = open_cache(name);
    uint64_t total = 0, size = 0;
    for (int image = 0; image < IMAGES; image++) {
        bool expected = (cached & 1U << image) != 0;
        CHECK(is_cached(cache, id_of(image)) == expected);
        if (expected) {
            static char read_back[LARGEST + 1];
            image_cache_reader_t *reader = NULL;
            size_t length = 0;
            OK(image_cache_open_for_read(cache, id_of(image), &reader, &check_error));
            OK(image_cache_read(reader, read_back, sizeof read_back, &length, &check_error));
            fill(image, length_of(image));
            CHECK(length == length_of(image) && memcmp(read_back, bytes, length) == 0);
            image_cache_reader_close(reader);
        } else {
            CHECK(try_to_cache(cache, image));
        }
        total += length_of(image);
    }
    OK(image_cache_get_cache_size(cache, &size, &check_error));
    CHECK(size == total);
    image_cache_close(cache);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    int limits = 0, exceeded = 0;
    for (rlim_t limit = 0; limit <= 320 * 1024; limit += limit < 64 * 1024 ? 4096 - 512 * (limit == 0) : 32 * 1024) {
        int output[2];
        unsigned cached = 0;
        char name[32];
        snprintf(name, sizeof name, "limit-%lu", (unsigned long)limit);
        CHECK(pipe(output) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            run_with_limit(name, limit, output[1]);
            fflush(NULL);
            _exit(0);
        }
        close(output[1]);
        ssize_t length = read(output[0], &cached, sizeof cached);
        close(output[0]);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || length != (ssize_t)sizeof cached) {
            fprintf(stderr, "with a limit of %lu bytes: %s %d\n", (unsigned long)limit,
                    WIFSIGNALED(status) ? "killed by signal" : "exit code",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            exit(1);
        }
        check_without_limit(name, cached);
        limits++;
        exceeded += cached != (1U << IMAGES) - 2;
    }
    printf("%d limits, %d of them exceeded by an image\n", limits, exceeded);
    CHECK(exceeded > 5 && exceeded < limits);
    return 0;
}
