#include "model.h"

#include "checks.h"

#include <string.h>

image_t images[IMAGES];
static uint64_t now;
static unsigned last_seed;

void start_model(void)
{
    static char longest_id[256];
    const char *const ids[IMAGES] = {"a", "b", "-rf", "with space", "\xc3\xbcml\xc3\xa4ut", longest_id};
    memset(longest_id, 'x', sizeof longest_id - 1);
    for (int i = 0; i < IMAGES; i++)
        images[i] = (image_t){.id = ids[i], .hits_exact = true};
    now = 0, last_seed = 0;
}

image_t *find_image(const char *id)
{
    for (int i = 0; i < IMAGES; i++)
        if (strcmp(images[i].id, id) == 0)
            return &images[i];
    return NULL;
}

unsigned new_seed(void) { return ++last_seed; }

bool is_cacheable(const image_t *image) { return !image->cached && !image->being_cached; }

bool has_incomplete_file(const image_t *image) { return image->being_cached || image->fetched_seed != 0; }

/* ---- Changes ----------------------------------------------------------------------------------------------------- */

bool claim(image_t *image)
{
    bool claimed = is_cacheable(image);
    image->being_cached = image->being_cached || claimed;
    if (claimed)
        image->fetched_seed = 0; /* it is replaced */
    return claimed;
}

void release(image_t *image) { image->being_cached = false; }

void lose_fetches(void)
{
    for (int i = 0; i < IMAGES; i++)
        images[i].fetched_seed = 0;
}

void publish(image_t *image, unsigned seed, uint64_t size)
{
    MUST(!image->cached);
    image->cached = true, image->queued = false, image->being_cached = false;
    image->seed = seed, image->size = size, image->fetched_seed = 0;
    image->hits = 0, image->hits_exact = image->readers == 0;
    image->accessed = ++now;
    image->revision++;
    image->open = 0;
}

void remove_cached(image_t *image)
{
    MUST(image->pins == 0);
    image->cached = false;
    image->revision++;
    image->open = 0;
}

void enqueue(image_t *image) { image->queued = true, image->queued_at = ++now; }

void open_image(image_t *image)
{
    image->accessed = ++now;
    image->readers++;
    image->open++;
}

void close_image(image_t *image, unsigned revision)
{
    image->readers--;
    if (image->revision != revision) {
        image->hits_exact = false;
        return;
    }
    image->hits++;
    image->open--;
}

/* ---- Questions --------------------------------------------------------------------------------------------------- */

static bool is_evictable(const image_t *image) { return image->cached && image->open == 0 && image->pins == 0; }

image_t *next_victim(void)
{
    image_t *oldest = NULL;
    for (int i = 0; i < IMAGES; i++)
        if (is_evictable(&images[i]) && images[i].size > 0 && (oldest == NULL || images[i].accessed < oldest->accessed))
            oldest = &images[i];
    return oldest;
}

uint64_t cached_bytes(void)
{
    uint64_t bytes = 0;
    for (int i = 0; i < IMAGES; i++)
        bytes += images[i].cached ? images[i].size : 0;
    return bytes;
}

uint64_t pinned_bytes(void)
{
    uint64_t bytes = 0;
    for (int i = 0; i < IMAGES; i++)
        bytes += images[i].pins != 0 ? images[i].size : 0;
    return bytes;
}

uint64_t bytes_in_use(void)
{
    uint64_t bytes = cached_bytes();
    for (int i = 0; i < IMAGES; i++)
        bytes -= is_evictable(&images[i]) ? images[i].size : 0;
    return bytes;
}

uint64_t count_cached(void)
{
    uint64_t count = 0;
    for (int i = 0; i < IMAGES; i++)
        count += images[i].cached;
    return count;
}

uint64_t count_queued(void)
{
    uint64_t count = 0;
    for (int i = 0; i < IMAGES; i++)
        count += images[i].queued;
    return count;
}
