/*
 * The calls with ids that none can have, and with any bytes as an id.
 */
#include "model.h"

#include <string.h>

static const char *const hostile[] = {
    "", ".", "..", ".hidden", "a/b", "/", "../../outside", "incomplete", "invalid", "queue", "cache.db", "cache.db-wal",
    "cache.db-shm", "cache.db-journal", "new\nline", "tab\t", "\x7f", "\xc2\x85", "\xff\xfe", "\xc0\xaf", "a\xed\xa0\x80",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

static int64_t source(void *user_data, void *bytes, size_t capacity)
{
    (void)user_data, (void)bytes, (void)capacity;
    fail(__FILE__, __LINE__, "a tee that was refused has no source", "-");
}

void bad_id(image_cache_t *cache)
{
    unsigned choice = below(HOSTILE + 1);
    char too_long[257] = {0};
    memset(too_long, 'x', sizeof too_long - 1);
    const char *id = choice < HOSTILE ? hostile[choice] : too_long;
    image_cache_writer_t *writer = (void *)1;
    image_cache_reader_t *reader = (void *)1;
    image_cache_tee_t *tee = (void *)1;
    bool answer = true;
    uint64_t number = 77;
    image_cache_status_t expected = IMAGE_CACHE_ERROR_INVALID_IMAGE_ID;
    trace("bad id %u\n", choice);
    switch (below(10)) {
    case 0: STATUS(expected, image_cache_begin_write(cache, id, &writer, &last_error)); MUST(writer == NULL); break;
    case 1: STATUS(expected, image_cache_open_for_read(cache, id, &reader, &last_error)); MUST(reader == NULL); break;
    case 2: STATUS(expected, image_cache_tee_open(cache, id, source, NULL, &tee, &last_error)); MUST(tee == NULL); break;
    case 3: STATUS(expected, image_cache_queue_image(cache, id, &answer, &last_error)); MUST(!answer); break;
    case 4: STATUS(expected, image_cache_delete_cached_image(cache, id, &last_error)); break;
    case 5: STATUS(expected, image_cache_delete_queued_image(cache, id, &last_error)); break;
    case 6: STATUS(expected, image_cache_is_cached(cache, id, &answer, &last_error)); MUST(!answer); break;
    case 7: STATUS(expected, image_cache_is_cacheable(cache, id, &answer, &last_error)); MUST(!answer); break;
    case 8: STATUS(expected, image_cache_get_image_size(cache, id, &number, &last_error)); MUST(number == 0); break;
    case 9: STATUS(expected, image_cache_get_hit_count(cache, id, &number, &last_error)); MUST(number == 0); break;
    }
}

/* Any bytes as an id: the calls agree on whether they are one. */
void any_id(image_cache_t *cache)
{
    char id[16] = {0};
    size_t length = below(sizeof id);
    for (size_t i = 0; i < length; i++)
        id[i] = (char)next_byte();
    if (find_image(id) != NULL)
        return;
    bool answer = true;
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status = image_cache_is_cached(cache, id, &answer, &last_error);
    MUST((status == IMAGE_CACHE_OK || status == IMAGE_CACHE_ERROR_INVALID_IMAGE_ID) && !answer);
    MUST(strchr(id, '/') == NULL || status != IMAGE_CACHE_OK);
    trace("any id %s\n", id);
    STATUS(status, image_cache_begin_write(cache, id, &writer, &last_error));
    image_cache_abort(writer, id); /* a reason in any bytes, too */
}
