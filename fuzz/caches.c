#include "caches.h"

#include "checks.h"
#include "input.h"
#include "workspace.h"

image_cache_t *caches[CACHES];
uint64_t max_size;
static image_cache_options_t *options;

void start_caches(int32_t driver)
{
    MUST(empty_workspace());
    max_size = next_length();
    options = image_cache_options_new();
    OK(image_cache_options_set_driver(options, driver, &last_error));
    OK(image_cache_options_set_durability(options, IMAGE_CACHE_DURABILITY_NONE, &last_error));
    OK(image_cache_options_set_max_size(options, max_size, &last_error));
    for (unsigned i = 0; i < CACHES; i++)
        open_cache(i);
}

void open_cache(unsigned number)
{
    trace("open %u\n", number);
    close_cache(number);
    OK(image_cache_open(cache_directory, options, &caches[number], &last_error));
}

void close_cache(unsigned number)
{
    image_cache_close(caches[number]);
    caches[number] = NULL;
}

void close_caches(void)
{
    for (unsigned i = 0; i < CACHES; i++)
        close_cache(i);
}

void end_caches(void) { image_cache_options_free(options); }

void flush_accesses(void)
{
    for (unsigned i = 0; i < CACHES; i++) {
        image_cache_list_t *list;
        if (caches[i] == NULL)
            continue;
        OK(image_cache_list_cached(caches[i], &list, &last_error)); /* a listing flushes first */
        image_cache_list_free(list);
    }
}
