#include "lists.h"

#include "caches.h"
#include "checks.h"
#include "input.h"
#include "model.h"

enum { LISTS = 2 };

static image_cache_list_t *lists[LISTS];

static void free_list(unsigned number)
{
    image_cache_list_free(lists[number]);
    lists[number] = NULL;
}

void free_lists(void)
{
    for (unsigned i = 0; i < LISTS; i++)
        free_list(i);
}

static void compare_list(image_cache_list_t *list, bool queued)
{
    const image_cache_entry_t *entry;
    uint64_t seen = 0, last = 0;
    while (image_cache_list_next(list, &entry)) {
        const image_t *image = find_image(entry->image_id);
        MUSTF(image != NULL, "%s", entry->image_id);
        MUSTF(queued ? image->queued : image->cached && entry->size == image->size, "%.20s", image->id);
        MUSTF(queued || !image->hits_exact || entry->hits == image->hits, "%.20s", image->id);
        MUSTF(!queued || image->queued_at > last, "the queue's order: %.20s", image->id);
        last = image->queued_at;
        seen++;
    }
    MUST(seen == (queued ? count_queued() : count_cached()));
}

void list_images(image_cache_t *cache)
{
    unsigned number = below(LISTS);
    bool queued = next_byte() % 2;
    trace("list_%s\n", queued ? "queued" : "cached");
    free_list(number);
    flush_accesses();
    OK(queued ? image_cache_list_queued(cache, &lists[number], &last_error)
              : image_cache_list_cached(cache, &lists[number], &last_error));
    bool walk_now = next_byte() % 2 == 0; /* otherwise it stays open, unread, across later calls */
    if (walk_now)
        compare_list(lists[number], queued);
}
