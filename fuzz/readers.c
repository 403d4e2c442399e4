/*
 * The calls that look at what is there: readers and lists.
 */
#include "model.h"

#include <string.h>

static image_cache_list_t *lists[LISTS];

void close_reader(reader_t *reader)
{
    if (reader->reader == NULL)
        return;
    trace("reader_close %td\n", reader - readers);
    image_cache_reader_close(reader->reader);
    if (images[reader->image].life == reader->life)
        images[reader->image].hits++;
    else
        images[reader->image].counted = false; /* a hit of an image that is gone; another one may have its name */
    *reader = (reader_t){0};
}

void open_reader(image_cache_t *cache)
{
    reader_t *reader = &readers[below(READERS)];
    int number = (int)below(IMAGES);
    image_t *image = &images[number];
    close_reader(reader);
    trace("open_for_read %td %.20s\n", reader - readers, image->id);
    STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
           image_cache_open_for_read(cache, image->id, &reader->reader, &last_error));
    MUST((reader->reader != NULL) == image->cached);
    if (!image->cached)
        return;
    image->use = next_time();
    *reader = (reader_t){reader->reader, number, image->seed, image->life, image->size, 0};
    MUST(image_cache_reader_size(reader->reader) == image->size);
    MUST(image_cache_reader_fd(reader->reader) >= 0);
}

void read_on(void)
{
    reader_t *reader = &readers[below(READERS)];
    size_t length = some_length(), came = 77;
    bool anywhere = next_byte() % 2;
    if (reader->reader == NULL)
        return;
    uint64_t at = anywhere ? (uint64_t)some_length() : reader->at;
    trace("read %td %zu at %" PRIu64 "\n", reader - readers, length, at);
    memset(buffer, 0, sizeof buffer);
    OK(anywhere ? image_cache_read_at(reader->reader, at, buffer, length, &came, &last_error)
                : image_cache_read(reader->reader, buffer, length, &came, &last_error));
    uint64_t left = at < reader->size ? reader->size - at : 0;
    MUST(came <= length && came <= left && (came > 0 || length == 0 || left == 0));
    check_buffer(reader->seed, at, came);
    if (!anywhere)
        reader->at += came;
}

void free_list(unsigned number)
{
    image_cache_list_free(lists[number]);
    lists[number] = NULL;
}

void list_images(image_cache_t *cache)
{
    unsigned number = below(LISTS);
    bool queued = next_byte() % 2;
    trace("list_%s\n", queued ? "queued" : "cached");
    free_list(number);
    write_hits();
    OK(queued ? image_cache_list_queued(cache, &lists[number], &last_error)
              : image_cache_list_cached(cache, &lists[number], &last_error));
    if (next_byte() % 2)
        return; /* it is walked later, or not at all */
    const image_cache_entry_t *entry;
    uint64_t seen = 0, expected = 0, last = 0;
    while (image_cache_list_next(lists[number], &entry)) {
        const image_t *image = find_image(entry->image_id);
        SAYING(image != NULL, "%s", entry->image_id);
        SAYING(queued ? image->queued : image->cached && entry->size == image->size, "%.20s", image->id);
        SAYING(queued || !image->counted || entry->hits == image->hits, "%.20s", image->id);
        SAYING(!queued || image->queued_at > last, "the oldest first: %.20s", image->id);
        last = image->queued_at;
        seen++;
    }
    for (int i = 0; i < IMAGES; i++)
        expected += queued ? images[i].queued : images[i].cached;
    MUST(seen == expected);
}
