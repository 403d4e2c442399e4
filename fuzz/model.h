/*
 * The model: the images that the cache must have. This file knows the checks; it neither calls the library nor holds
 * handles.
 */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { IMAGES = 6 };

typedef struct {
    const char *id;
    bool cached, queued, being_cached;
    unsigned seed;     /* of the content */
    unsigned revision; /* counts how often an image of this id came or went */
    unsigned readers;  /* open ones, of any revision */
    unsigned open;     /* those of the present revision */
    unsigned pins;     /* a bit for each holder */
    uint64_t size, hits, accessed, queued_at;
    unsigned fetched_seed; /* of an unfinished fetch; 0 for none */
    uint64_t fetched;      /* its bytes */
    bool hits_exact;       /* false once a reader of an older revision may add its hit to this one */
} image_t;

extern image_t images[IMAGES];

void start_model(void);              /* no image, and time 0 */
image_t *find_image(const char *id); /* NULL if the model has no such id */
unsigned new_seed(void);

bool claim(image_t *image); /* for a stream; false if the image is cached or being cached */
void release(image_t *image);
void lose_fetches(void);
void publish(image_t *image, unsigned seed, uint64_t size);
void remove_cached(image_t *image);
void enqueue(image_t *image);
void open_image(image_t *image);
void close_image(image_t *image, unsigned revision); /* the revision that the reader opened */

bool is_cacheable(const image_t *image);
bool has_incomplete_file(const image_t *image);
image_t *next_victim(void);
uint64_t cached_bytes(void);
uint64_t pinned_bytes(void);
uint64_t bytes_in_use(void); /* or pinned */
uint64_t count_cached(void);
uint64_t count_queued(void);

#endif
