#include "bounds.h"

#include "caches.h"
#include "checks.h"
#include "input.h"
#include "model.h"

#include <string.h>

enum { HOLDERS = 2 };

static const char *const holders[HOLDERS] = {"agent", "\xff a holder\n"};

static void pin(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    unsigned holder = below(HOLDERS);
    uint64_t seconds = 3600; /* with 0, each new directory would cost the process a descriptor until it ends */
    bool fits = image->pins != 0 || pinned_bytes() + image->size <= max_size / 2;
    image_cache_status_t expected = !image->cached ? IMAGE_CACHE_ERROR_NOT_FOUND
                                    : fits         ? IMAGE_CACHE_OK
                                                   : IMAGE_CACHE_ERROR_NO_SPACE;
    trace("pin %.20s %u\n", image->id, holder);
    STATUS(expected, image_cache_pin(cache, image->id, holders[holder], seconds, &last_error));
    if (expected == IMAGE_CACHE_OK)
        image->pins |= 1u << holder;
}

static void unpin(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    unsigned holder = below(HOLDERS);
    trace("unpin %.20s %u\n", image->id, holder);
    OK(image_cache_unpin(cache, image->id, holders[holder], &last_error));
    image->pins &= ~(1u << holder);
}

static void make_room(image_cache_t *cache)
{
    uint64_t bytes = next_length(), images_gone = 77, bytes_gone = 77;
    uint64_t images_before = count_cached(), bytes_before = cached_bytes();
    bool fits = bytes <= max_size && bytes_in_use() <= max_size - bytes;
    trace("make_room %" PRIu64 "\n", bytes);
    STATUS(fits ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NO_SPACE,
           image_cache_make_room(cache, bytes, &images_gone, &bytes_gone, &last_error));
    while (fits && cached_bytes() > max_size - bytes)
        remove_cached(next_victim());
    MUSTF(images_gone == images_before - count_cached() && bytes_gone == bytes_before - cached_bytes(),
          "%" PRIu64 " images, %" PRIu64 " bytes", images_gone, bytes_gone);
}

static void delete_unused(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool pinned = image->cached && image->pins != 0, in_use = image->cached && image->open > 0, deleted = in_use;
    trace("delete_unused_image %.20s\n", image->id);
    STATUS(pinned ? IMAGE_CACHE_ERROR_PINNED : IMAGE_CACHE_OK,
           image_cache_delete_unused_image(cache, image->id, &deleted, &last_error));
    MUST(pinned || deleted == !in_use);
    if (!pinned && deleted && image->cached)
        remove_cached(image);
}

/* Of one image, or of all of them. */
static void verify(image_cache_t *cache)
{
    image_t *image = next_byte() % 2 ? &images[below(IMAGES)] : NULL;
    uint64_t expected = image == NULL ? count_cached() : image->cached;
    image_cache_verify_result_t found, none = {0};
    memset(&found, 0x55, sizeof found);
    trace("verify %.20s\n", image == NULL ? "all" : image->id);
    STATUS(image == NULL || image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
           image_cache_verify(cache, image == NULL ? NULL : image->id, NULL, 0, &found, sizeof found, &last_error));
    MUSTF(found.verified == expected, "%" PRIu64, found.verified);
    found.verified = 0, found.bytes_read = 0;
    MUST(memcmp(&found, &none, sizeof found) == 0);
}

void keep_within_bounds(image_cache_t *cache)
{
    switch (below(6)) {
    case 0:
    case 1: pin(cache); break;
    case 2: unpin(cache); break;
    case 3: make_room(cache); break;
    case 4: delete_unused(cache); break;
    default: verify(cache); break;
    }
}
