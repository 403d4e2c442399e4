/*
 * Inspection through the C ABI: what an inspector gets, how its refusal is reported, and what it may do.
 */
#include <image_cache.h>

#include "check.h"

#include <fcntl.h>
#include <pthread.h>

enum verdict { ACCEPT, REFUSE, WITHOUT_REASON, POSITIVE, LONG_REASON, CALL_THE_LIBRARY };

struct inspector {
    enum verdict verdict;
    unsigned calls;
    image_cache_t *cache;
};

static image_cache_status_t inspect(void *user_data, const char *id, int32_t fd, uint64_t length, char *reason,
                                    size_t capacity)
{
    struct inspector *inspector = user_data;
    char bytes[16] = "";
    inspector->calls++;
    CHECK(length == 5 && read(fd, bytes, sizeof bytes) == 5 && memcmp(bytes, "bytes", 5) == 0);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(write(fd, "other", 5) == -1 && errno == EBADF);
    CHECK(capacity >= 256);
    for (size_t i = 0; i < capacity; i++)
        CHECK(reason[i] == 0);
    switch (inspector->verdict) {
    case ACCEPT: return IMAGE_CACHE_OK;
    case REFUSE: snprintf(reason, capacity, "%s is not mine", id); return IMAGE_CACHE_ERROR_REFUSED;
    case WITHOUT_REASON: return IMAGE_CACHE_ERROR_IO;
    case POSITIVE: return 1;
    case LONG_REASON:
        memset(reason, 'x', capacity); /* without a NUL */
        return IMAGE_CACHE_ERROR_REFUSED;
    case CALL_THE_LIBRARY: break;
    }
    image_cache_writer_t *writer = NULL;
    uint64_t removed = 0;
    inspector->verdict = ACCEPT; /* of the image below, which is inspected as well */
    cache_image(inspector->cache, "another", "bytes");
    check_image(inspector->cache, "another", "bytes");
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(inspector->cache, id, &writer, &check_error));
    OK(image_cache_clean(inspector->cache, -1, &removed, &check_error));
    CHECK(pthread_cancel(pthread_self()) == 0); /* has no effect before the commit has returned */
    pthread_testcancel();
    return IMAGE_CACHE_OK;
}

static struct inspector inspector;

static image_cache_t *open_inspected(void)
{
    image_cache_t *cache = NULL;
    image_cache_options_t *options = new_options();
    OK(image_cache_options_set_inspector(options, inspect, &inspector, &check_error));
    OK(image_cache_open(in_directory("cache"), options, &cache, &check_error));
    image_cache_options_free(options);
    return inspector.cache = cache;
}

static image_cache_status_t commit(image_cache_t *cache, const char *id)
{
    image_cache_writer_t *writer = NULL;
    OK(image_cache_begin_write(cache, id, &writer, &check_error));
    OK(image_cache_write_chunk(writer, "bytes", 5, &check_error));
    return image_cache_commit(writer, &check_error);
}

static void a_refusal_is_reported_with_its_reason(void)
{
    static const struct {
        enum verdict verdict;
        const char *message;
    } refusals[] = {
        {REFUSE, "image 'image' is refused: image is not mine"},
        {WITHOUT_REASON, "image 'image' is refused: its inspector returned -9"},
        {POSITIVE, "image 'image' is refused: its inspector returned 1"},
        {LONG_REASON, "image 'image' is refused: xxxxx"},
    };
    image_cache_t *cache = open_inspected();
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const char *expected = refusals[i].message;
        inspector.verdict = refusals[i].verdict;
        STATUS(IMAGE_CACHE_ERROR_REFUSED, commit(cache, "image"));
        CHECK(strncmp(check_error.message, expected, strlen(expected)) == 0);
        CHECK(exists(in_directory("cache/invalid/image")) && !exists(in_directory("cache/image")));
    }
    CHECK(inspector.calls == 4);
    inspector.verdict = ACCEPT;
    OK(commit(cache, "image"));
    image_cache_close(cache);
}

static void *commit_on_a_thread(void *cache)
{
    inspector.verdict = CALL_THE_LIBRARY;
    OK(commit(cache, "calls"));
    check_image(cache, "calls", "bytes");
    image_cache_close(cache);
    pthread_testcancel();
    return NULL;
}

static void an_inspector_calls_the_library_and_is_not_cancelled(void)
{
    pthread_t thread;
    void *end = NULL;
    CHECK(pthread_create(&thread, NULL, commit_on_a_thread, open_inspected()) == 0);
    CHECK(pthread_join(thread, &end) == 0 && end == PTHREAD_CANCELED);
}

static void formats_are_set_and_reset(void)
{
    image_cache_t *cache = NULL;
    image_cache_options_t *options = new_options();
    OK(image_cache_options_set_formats(options, "qcow2,iso", &check_error));
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_options_set_formats(options, "qcow2;iso", &check_error));
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_options_set_formats(options, "", &check_error));
    OK(image_cache_open(in_directory("formats"), options, &cache, &check_error)); /* a failure changes nothing */
    STATUS(IMAGE_CACHE_ERROR_REFUSED, commit(cache, "raw"));
    CHECK(strcmp(check_error.message, "image 'raw' is refused: its format is raw, which is not accepted") == 0);
    image_cache_close(cache);
    OK(image_cache_options_set_formats(options, NULL, &check_error));
    OK(image_cache_open(in_directory("formats"), options, &cache, &check_error));
    OK(commit(cache, "raw"));
    image_cache_close(cache);
    image_cache_options_free(options);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    a_refusal_is_reported_with_its_reason();
    an_inspector_calls_the_library_and_is_not_cancelled();
    formats_are_set_and_reset();
    return 0;
}
