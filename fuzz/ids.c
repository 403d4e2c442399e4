#include "ids.h"

#include "checks.h"
#include "input.h"
#include "model.h"

#include <string.h>

/* clang-format off */
static const char *const invalid[] = {
    "", ".", "..", ".hidden", "a/b", "/", "../../outside", "incomplete", "invalid", "queue", "cache.db", "cache.db-wal",
    "cache.db-shm", "cache.db-journal", "new\nline", "tab\t", "\x7f", "\xc2\x85", "\xff\xfe", "\xc0\xaf", "a\xed\xa0\x80",
};
/* clang-format on */
enum { INVALID = sizeof invalid / sizeof *invalid };

static int64_t source(void *user_data, void *bytes, size_t capacity)
{
    (void)user_data, (void)bytes, (void)capacity;
    fail(__FILE__, __LINE__, "a tee with an invalid id reads no source", "-");
}

void invalid_id(image_cache_t *cache)
{
    unsigned choice = below(INVALID + 1);
    char too_long[257] = {0};
    memset(too_long, 'x', sizeof too_long - 1);
    const char *id = choice < INVALID ? invalid[choice] : too_long;
    image_cache_writer_t *writer = (void *)1;
    image_cache_reader_t *reader = (void *)1;
    image_cache_tee_t *tee = (void *)1;
    bool answer = true;
    uint64_t number = 77;
    image_cache_status_t expected = IMAGE_CACHE_ERROR_INVALID_IMAGE_ID;
    trace("invalid id %u\n", choice);
    /* clang-format off */
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
    /* clang-format on */
}

/* All calls must agree on whether the bytes are a valid id. */
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
    image_cache_abort(writer, id); /* the reason may be any bytes, too */
}
