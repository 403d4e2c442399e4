#include "housekeeping.h"

#include "caches.h"
#include "checks.h"
#include "input.h"
#include "model.h"
#include "streams.h"

void queue_one(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = true, expected = !image->queued && is_cacheable(image);
    trace("queue_image %.20s\n", image->id);
    OK(image_cache_queue_image(cache, image->id, &queued, &last_error));
    MUSTF(queued == expected, "%.20s", image->id);
    if (queued)
        enqueue(image);
}

void prune(image_cache_t *cache)
{
    uint64_t images_before = count_cached(), bytes_before = cached_bytes(), images_gone = 77, bytes_gone = 77;
    uint64_t limit = next_byte() % 2 ? max_size : next_length();
    image_t *victim;
    trace("prune to %" PRIu64 "\n", limit);
    OK(limit == max_size ? image_cache_prune(cache, &images_gone, &bytes_gone, &last_error)
                         : image_cache_prune_to(cache, limit, &images_gone, &bytes_gone, &last_error));
    while (cached_bytes() > limit && (victim = next_victim()) != NULL)
        remove_cached(victim);
    MUSTF(images_gone == images_before - count_cached() && bytes_gone == bytes_before - cached_bytes(),
          "%" PRIu64 " images, %" PRIu64 " bytes", images_gone, bytes_gone);
}

void clean(image_cache_t *cache)
{
    uint64_t removed = 77;
    int64_t stall_time = next_byte() % 2 ? 0 : -1;
    trace("clean %d\n", (int)stall_time);
    OK(image_cache_clean(cache, stall_time, &removed, &last_error));
    if (stall_time == 0) {
        lose_streams();
        lose_fetches();
    }
}

static void delete_image(image_t *image, bool queued)
{
    if (queued)
        image->queued = false;
    else if (image->cached && image->pins == 0)
        remove_cached(image);
}

/* Of a deletion of these images. */
static image_cache_status_t status_of_deletion(const image_t *first, int count)
{
    for (int i = 0; i < count; i++)
        if (first[i].pins != 0)
            return IMAGE_CACHE_ERROR_PINNED;
    return IMAGE_CACHE_OK;
}

void delete_one(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = next_byte() % 2;
    trace("delete_%s %.20s\n", queued ? "queued" : "cached", image->id);
    if (queued)
        OK(image_cache_delete_queued_image(cache, image->id, &last_error));
    else
        STATUS(status_of_deletion(image, 1), image_cache_delete_cached_image(cache, image->id, &last_error));
    delete_image(image, queued);
}

void delete_all(image_cache_t *cache)
{
    bool queued = next_byte() % 2;
    uint64_t deleted = 77;
    trace("delete_all_%s\n", queued ? "queued" : "cached");
    image_cache_status_t expected = queued ? IMAGE_CACHE_OK : status_of_deletion(images, IMAGES);
    STATUS(expected, queued ? image_cache_delete_all_queued_images(cache, &deleted, &last_error)
                            : image_cache_delete_all_cached_images(cache, &deleted, &last_error));
    MUST(deleted == (expected != IMAGE_CACHE_OK ? 0 : queued ? count_queued() : count_cached()));
    for (int i = 0; i < IMAGES; i++)
        delete_image(&images[i], queued);
}
