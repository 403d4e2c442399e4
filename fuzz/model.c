/*
 * The model: what becomes of an image when a stream begins, publishes or gives up, and when the image goes.
 */
#include "model.h"

#include <string.h>

image_t images[IMAGES];
stream_t streams[STREAMS];
reader_t readers[READERS];
static uint64_t now;
static unsigned last_seed;

void start_model(void)
{
    static char longest_id[256];
    const char *const ids[IMAGES] = {"a", "b", "-rf", "with space", "\xc3\xbcml\xc3\xa4ut", longest_id};
    memset(longest_id, 'x', sizeof longest_id - 1);
    for (int i = 0; i < IMAGES; i++)
        images[i] = (image_t){.id = ids[i], .owner = NOBODY, .counted = true};
    now = 0, last_seed = 0;
}

uint64_t next_time(void) { return ++now; }

image_t *find_image(const char *id)
{
    for (int i = 0; i < IMAGES; i++)
        if (strcmp(images[i].id, id) == 0)
            return &images[i];
    return NULL;
}

stream_t new_stream(int image) { return (stream_t){.image = image, .seed = ++last_seed, .expected = UINT64_MAX}; }

void begin(stream_t *stream, int image)
{
    *stream = new_stream(image);
    stream->owns = !images[image].cached && images[image].owner == NOBODY;
    if (stream->owns)
        images[image].owner = (int)(stream - streams);
}

void release(stream_t *stream)
{
    if (stream->owns)
        images[stream->image].owner = NOBODY;
    stream->owns = false;
}

void publish(stream_t *stream)
{
    image_t *image = &images[stream->image];
    release(stream);
    MUST(!image->cached);
    image->cached = true, image->queued = false, image->counted = true;
    image->seed = stream->seed, image->size = stream->size, image->hits = 0, image->use = next_time();
    image->life++;
    for (int i = 0; i < READERS; i++)
        if (readers[i].reader != NULL && readers[i].image == stream->image)
            image->counted = false;
}

void forget(image_t *image)
{
    image->cached = false;
    image->life++;
}

bool fits(const stream_t *stream) { return stream->expected == UINT64_MAX || stream->expected == stream->size; }
