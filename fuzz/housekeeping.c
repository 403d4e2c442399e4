/*
 * The calls that change what is there, but for bringing images: the queue, prune, clean and deletions.
 */
#include "model.h"

void queue_one(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = true, expected = !image->queued && !image->cached && image->owner == NOBODY;
    trace("queue_image %.20s\n", image->id);
    OK(image_cache_queue_image(cache, image->id, &queued, &last_error));
    SAYING(queued == expected, "%.20s", image->id);
    if (queued)
        image->queued = true, image->queued_at = next_time();
}

void prune(image_cache_t *cache, uint64_t limit)
{
    uint64_t total = 0, count = 0, bytes = 0, images_gone = 77, bytes_gone = 77;
    trace("prune to %" PRIu64 "\n", limit);
    OK(image_cache_prune(cache, &images_gone, &bytes_gone, &last_error));
    for (int i = 0; i < IMAGES; i++)
        total += images[i].cached ? images[i].size : 0;
    while (total > limit) {
        image_t *oldest = NULL;
        for (int i = 0; i < IMAGES; i++)
            if (images[i].cached && (oldest == NULL || images[i].use < oldest->use))
                oldest = &images[i];
        MUST(oldest != NULL);
        forget(oldest);
        total -= oldest->size, bytes += oldest->size, count++;
    }
    SAYING(images_gone == count && bytes_gone == bytes, "%" PRIu64 " images, %" PRIu64 " bytes", images_gone, bytes_gone);
}

void clean(image_cache_t *cache)
{
    uint64_t removed = 77;
    int64_t stall_time = next_byte() % 2 ? 0 : -1;
    trace("clean %d\n", (int)stall_time);
    OK(image_cache_clean(cache, stall_time, &removed, &last_error));
    for (int i = 0; stall_time == 0 && i < STREAMS; i++) {
        if (streams[i].owns)
            streams[i].lost = true;
        release(&streams[i]);
    }
}

void delete_one(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = next_byte() % 2;
    trace("delete_%s %.20s\n", queued ? "queued" : "cached", image->id);
    OK(queued ? image_cache_delete_queued_image(cache, image->id, &last_error)
              : image_cache_delete_cached_image(cache, image->id, &last_error));
    if (queued)
        image->queued = false;
    else if (image->cached)
        forget(image);
}

void delete_all(image_cache_t *cache)
{
    bool queued = next_byte() % 2;
    uint64_t deleted = 77, expected = 0;
    trace("delete_all_%s\n", queued ? "queued" : "cached");
    OK(queued ? image_cache_delete_all_queued_images(cache, &deleted, &last_error)
              : image_cache_delete_all_cached_images(cache, &deleted, &last_error));
    for (int i = 0; i < IMAGES; i++) {
        expected += queued ? images[i].queued : images[i].cached;
        if (queued)
            images[i].queued = false;
        else if (images[i].cached)
            forget(&images[i]);
    }
    MUST(deleted == expected);
}
