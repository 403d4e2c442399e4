#include "prefetch.h"

#include "checks.h"
#include "content.h"
#include "model.h"

typedef struct {
    image_cache_t *cache;
    uint64_t fetched, failed;
} prefetch_t;

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *writer)
{
    prefetch_t *expected = user_data;
    image_t *image = find_image(id);
    MUST(image != NULL && image->queued && is_cacheable(image));
    unsigned seed = new_seed();
    image->fetched_seed = 0; /* it is replaced */
    bool being_cached = false;
    image_cache_writer_t *other = NULL;
    OK(image_cache_is_being_cached(expected->cache, id, &being_cached, &last_error));
    MUST(being_cached);
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(expected->cache, id, &other, &last_error));
    size_t size = next_length();
    fill(buffer, seed, 0, size);
    OK(image_cache_write_chunk(writer, buffer, size, &last_error));
    unsigned choice = below(8);
    bool aborts = choice == 0, fails = choice == 2;
    trace("  fetch %.20s: %u\n", id, choice);
    if (aborts)
        image_cache_abort(writer, "within");
    if (choice == 1)
        STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_commit(writer, &last_error));
    if (aborts || fails) {
        expected->failed++;
    } else {
        expected->fetched++;
        publish(image, seed, size);
    }
    return fails ? IMAGE_CACHE_ERROR_SOURCE : IMAGE_CACHE_OK;
}

void prefetch(image_cache_t *cache)
{
    prefetch_t expected = {.cache = cache};
    uint64_t fetched = 77, failed = 77;
    trace("prefetch\n");
    OK(image_cache_prefetch(cache, fetch, &expected, &fetched, &failed, &last_error));
    MUSTF(fetched == expected.fetched && failed == expected.failed, "%" PRIu64 " and %" PRIu64, fetched, failed);
}
