/*
 * A fuzzer of the C ABI: its input is a list of calls. Handles are opened, used and closed in any order, with ids that no
 * image can have, on two handles of one cache directory. A small model in memory knows what each call must bring about;
 * what differs from it ends the process.
 *
 *     calls [libFuzzer's options] [CORPUS_FOLDER...]      see scripts/fuzz.sh; FUZZ_TRACE=1 prints the calls
 *
 * The same bytes are the same calls: nothing depends on time, on chance, or on what ran before. The cache is in $TMPDIR
 * or /dev/shm, with durability none, and is made anew for each input.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for nftw, mkdtemp */
#endif

#include <image_cache.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CACHES = 2, STREAMS = 5, READERS = 4, LISTS = 2, IMAGES = 6, CALLS = 120, LONGEST = 20000, NOBODY = -1 };

/* ---- What the model knows ---------------------------------------------------------------------------------------- */

typedef struct {
    const char *id;
    bool cached, queued;
    unsigned seed; /* of the bytes */
    uint64_t size, hits, use, queued_at;
    bool counted;  /* whether hits is exact: a reader of an older image of that name makes it a guess */
    int owner;     /* the stream that writes it, or NOBODY */
} image_t;

typedef struct {
    image_cache_writer_t *writer; /* one of these two, or neither */
    image_cache_tee_t *tee;
    int image;
    bool owns, begun, broken, ended; /* broken: lost, or too long; ended: a tee at its end */
    bool lost, too_long, fails;
    unsigned seed;
    uint64_t size, expected; /* expected: UINT64_MAX for nothing */
    uint64_t end;            /* of a tee's source, where it ends or fails */
    size_t step;
} stream_t;

typedef struct {
    image_cache_reader_t *reader;
    int image;
    unsigned seed, life; /* life: of the image, to know whether it is still the same one */
    uint64_t size, at;
} reader_t;

static const char *const hostile[] = {
    "", ".", "..", ".hidden", "a/b", "/", "../../outside", "incomplete", "invalid", "queue", "cache.db", "cache.db-wal",
    "cache.db-shm", "cache.db-journal", "new\nline", "tab\t", "\x7f", "\xc2\x85", "\xff\xfe", "\xc0\xaf", "a\xed\xa0\x80",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

static char longest_id[256], too_long_id[257];
static image_t images[IMAGES];
static unsigned lives[IMAGES];
static image_cache_t *caches[CACHES];
static stream_t streams[STREAMS];
static reader_t readers[READERS];
static image_cache_list_t *lists[LISTS];
static image_cache_options_t *options;
static image_cache_error_t error;
static uint64_t limit, now;
static unsigned next_seed;
static char folder[200], directory[256];
static bool trace;
static char buffer[LONGEST];

/* ---- The input --------------------------------------------------------------------------------------------------- */

static const uint8_t *input, *input_end;

static unsigned byte(void) { return input < input_end ? *input++ : 0; }
static unsigned below(unsigned bound) { return byte() % bound; }

/* Lengths of every magnitude up to LONGEST. */
static size_t some_length(void)
{
    size_t length = byte();
    length <<= byte() % 8;
    return length < LONGEST ? length : LONGEST;
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

/* The condition holds, or else the process ends, saying what is printed by the format. */
#define SAYING(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "calls.c:%d: not so: %s: ", __LINE__, #condition);                                         \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n    the error: %s\n", error.status < 0 ? error.message : "none");                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)
#define MUST(condition) SAYING(condition, "-")

#define TRACE(...) (trace ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

static char pattern(unsigned seed, uint64_t at) { return (char)(seed * 31 + at * 7 + (at >> 8)); }

static void fill(unsigned seed, uint64_t at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = pattern(seed, at + i);
}

static void same(unsigned seed, uint64_t at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        SAYING(buffer[i] == pattern(seed, at + i), "byte %" PRIu64, at + i);
}

/* A status that is in order, and an error struct that fits it. */
static image_cache_status_t check(image_cache_status_t status, image_cache_status_t expected, int line)
{
    TRACE("    %s\n", image_cache_status_name(status));
    if (status != expected) {
        fprintf(stderr, "calls.c:%d: expected %s, got %s\n", line, image_cache_status_name(expected),
                image_cache_status_name(status));
        SAYING(status == expected, "line %d", line);
    }
    if (status < 0)
        MUST(error.status == status && error.message[0] != '\0' && memchr(error.message, 0, sizeof error.message) != NULL);
    memset(&error, 0x55, sizeof error);
    error.message[sizeof error.message - 1] = '\0';
    return status;
}
#define STATUS(expected, call) check((call), (expected), __LINE__)
#define OK(call) STATUS(IMAGE_CACHE_OK, call)

/* ---- What happens to an image ------------------------------------------------------------------------------------ */

static void forget(image_t *image)
{
    image->cached = false;
    lives[image - images]++;
}

static void release(stream_t *stream)
{
    if (stream->owns)
        images[stream->image].owner = NOBODY;
    stream->owns = false;
}

static void publish(stream_t *stream)
{
    image_t *image = &images[stream->image];
    release(stream);
    MUST(!image->cached);
    image->cached = true, image->queued = false, image->counted = true;
    image->seed = stream->seed, image->size = stream->size, image->hits = 0, image->use = ++now;
    lives[stream->image]++;
    for (int i = 0; i < READERS; i++)
        if (readers[i].reader != NULL && readers[i].image == stream->image)
            image->counted = false;
}

static bool fits(const stream_t *stream) { return stream->expected == UINT64_MAX || stream->expected == stream->size; }

static void begin(stream_t *stream, int image)
{
    *stream = (stream_t){.image = image, .seed = ++next_seed, .expected = UINT64_MAX};
    stream->owns = !images[image].cached && images[image].owner == NOBODY;
    if (stream->owns)
        images[image].owner = (int)(stream - streams);
}

/* ---- Calls: writers and tees ------------------------------------------------------------------------------------- */

static void end_stream(stream_t *stream, bool commit)
{
    if (stream->writer != NULL && commit) {
        image_cache_status_t expected = stream->lost          ? IMAGE_CACHE_ERROR_LOST
                                        : !fits(stream)       ? IMAGE_CACHE_ERROR_SIZE_MISMATCH
                                                              : IMAGE_CACHE_OK;
        image_cache_status_t status = image_cache_commit(stream->writer, &error);
        if (stream->lost && stream->expected != UINT64_MAX && status == IMAGE_CACHE_ERROR_SIZE_MISMATCH)
            expected = status; /* both are true */
        if (STATUS(expected, status) == IMAGE_CACHE_OK)
            publish(stream);
    } else if (stream->writer != NULL) {
        image_cache_abort(stream->writer, stream->seed % 2 ? "given up" : NULL);
    }
    if (stream->tee != NULL) {
        image_cache_tee_close(stream->tee);
        if (stream->owns && !stream->ended && stream->expected == stream->size)
            publish(stream);
    }
    release(stream);
    *stream = (stream_t){0};
}

static int64_t source(void *user_data, void *bytes, size_t capacity)
{
    stream_t *stream = user_data;
    uint64_t length = stream->end - stream->size;
    if (length == 0)
        return stream->fails ? -1 : 0;
    length = length < stream->step ? length : stream->step;
    length = length < capacity ? length : capacity;
    for (size_t i = 0; i < length; i++)
        ((char *)bytes)[i] = pattern(stream->seed, stream->size + i);
    return (int64_t)length;
}

static void begin_write(image_cache_t *cache)
{
    stream_t *stream = &streams[below(STREAMS)];
    int image = (int)below(IMAGES);
    TRACE("begin_write %ld %.20s\n", (long)(stream - streams), images[image].id);
    end_stream(stream, false);
    begin(stream, image);
    STATUS(stream->owns             ? IMAGE_CACHE_OK
           : images[image].cached   ? IMAGE_CACHE_ERROR_ALREADY_CACHED
                                    : IMAGE_CACHE_ERROR_BEING_CACHED,
           image_cache_begin_write(cache, images[image].id, &stream->writer, &error));
    MUST((stream->writer != NULL) == stream->owns);
}

static void open_tee(image_cache_t *cache)
{
    stream_t *stream = &streams[below(STREAMS)];
    int image = (int)below(IMAGES);
    TRACE("tee_open %ld %.20s\n", (long)(stream - streams), images[image].id);
    end_stream(stream, false);
    begin(stream, image);
    stream->end = some_length(), stream->step = some_length() + 1, stream->fails = byte() % 4 == 0;
    OK(image_cache_tee_open(cache, images[image].id, source, stream, &stream->tee, &error));
    MUST(image_cache_tee_is_caching(stream->tee) == stream->owns);
}

static void expect(void)
{
    stream_t *stream = &streams[below(STREAMS)];
    uint64_t size = stream->tee != NULL && byte() % 4 != 0 ? stream->end : some_length();
    if (stream->lost)
        return; /* it can only fail, and what it is told first is all the same */
    TRACE("expect_size %ld %" PRIu64 "\n", (long)(stream - streams), size);
    bool allowed = !stream->begun && !stream->ended && (stream->expected == UINT64_MAX || stream->expected == size);
    image_cache_status_t expected = allowed ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_INVALID_ARGUMENT;
    if (stream->writer != NULL) {
        STATUS(expected, image_cache_writer_expect_size(stream->writer, size, &error));
    } else if (stream->tee != NULL) {
        STATUS(expected, image_cache_tee_expect_size(stream->tee, size, &error));
        if (!allowed && !stream->ended)
            release(stream); /* given up, since it could not be checked */
    } else {
        return;
    }
    if (allowed)
        stream->expected = size;
}

static void write_or_read_on(void)
{
    stream_t *stream = &streams[below(STREAMS)];
    size_t length = some_length();
    if (stream->writer != NULL) {
        TRACE("write_chunk %ld %zu\n", (long)(stream - streams), length);
        fill(stream->seed, stream->size, length);
        image_cache_status_t status = image_cache_write_chunk(stream->writer, buffer, length, &error);
        if (stream->lost) { /* and so for ever; a chunk of nothing may not notice */
            MUST(status == IMAGE_CACHE_ERROR_LOST || status == IMAGE_CACHE_ERROR_SIZE_MISMATCH || length == 0);
            return;
        }
        stream->size += length;
        stream->begun = true; /* a chunk of nothing is a chunk */
        stream->too_long = stream->expected != UINT64_MAX && stream->size > stream->expected;
        STATUS(stream->too_long ? IMAGE_CACHE_ERROR_SIZE_MISMATCH : IMAGE_CACHE_OK, status);
    } else if (stream->tee != NULL) {
        size_t came = 77;
        TRACE("tee_read %ld %zu\n", (long)(stream - streams), length);
        bool at_end = length > 0 && stream->size == stream->end;
        image_cache_status_t expected = !at_end && !stream->ended                      ? IMAGE_CACHE_OK
                                        : stream->fails                                ? IMAGE_CACHE_ERROR_SOURCE
                                        : fits(stream)                                 ? IMAGE_CACHE_OK
                                                                                       : IMAGE_CACHE_ERROR_SIZE_MISMATCH;
        memset(buffer, 0, sizeof buffer);
        STATUS(expected, image_cache_tee_read(stream->tee, buffer, length, &came, &error));
        MUST(came <= length && came <= stream->end - stream->size && (came > 0 || length == 0 || at_end || stream->ended));
        same(stream->seed, stream->size, came);
        stream->size += came;
        stream->begun = stream->begun || came > 0;
        if (stream->expected != UINT64_MAX && stream->size > stream->expected)
            release(stream);
        if (at_end && !stream->ended) {
            stream->ended = true;
            if (stream->owns && expected == IMAGE_CACHE_OK)
                publish(stream);
            release(stream);
        }
        MUST(!stream->owns || image_cache_tee_is_caching(stream->tee));
    }
}

/* ---- Calls: readers and lists ------------------------------------------------------------------------------------ */

static void close_reader(reader_t *reader)
{
    if (reader->reader == NULL)
        return;
    TRACE("reader_close %ld\n", (long)(reader - readers));
    image_cache_reader_close(reader->reader);
    if (lives[reader->image] == reader->life)
        images[reader->image].hits++;
    else
        images[reader->image].counted = false; /* a hit of an image that is gone; another one may have its name */
    *reader = (reader_t){0};
}

static void open_reader(image_cache_t *cache)
{
    reader_t *reader = &readers[below(READERS)];
    int number = (int)below(IMAGES);
    image_t *image = &images[number];
    close_reader(reader);
    TRACE("open_for_read %ld %.20s\n", (long)(reader - readers), image->id);
    STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
           image_cache_open_for_read(cache, image->id, &reader->reader, &error));
    MUST((reader->reader != NULL) == image->cached);
    if (!image->cached)
        return;
    image->use = ++now;
    *reader = (reader_t){reader->reader, number, image->seed, lives[number], image->size, 0};
    MUST(image_cache_reader_size(reader->reader) == image->size);
    MUST(image_cache_reader_fd(reader->reader) >= 0);
}

static void read_on(void)
{
    reader_t *reader = &readers[below(READERS)];
    size_t length = some_length(), came = 77;
    bool anywhere = byte() % 2;
    if (reader->reader == NULL)
        return;
    uint64_t at = anywhere ? (uint64_t)some_length() : reader->at;
    TRACE("read %ld %zu at %" PRIu64 "\n", (long)(reader - readers), length, at);
    memset(buffer, 0, sizeof buffer);
    OK(anywhere ? image_cache_read_at(reader->reader, at, buffer, length, &came, &error)
                : image_cache_read(reader->reader, buffer, length, &came, &error));
    uint64_t left = at < reader->size ? reader->size - at : 0;
    MUST(came <= length && came <= left && (came > 0 || length == 0 || left == 0));
    same(reader->seed, at, came);
    if (!anywhere)
        reader->at += came;
}

static void list_images(image_cache_t *cache)
{
    unsigned number = below(LISTS);
    bool queued = byte() % 2;
    TRACE("list_%s\n", queued ? "queued" : "cached");
    image_cache_list_free(lists[number]);
    lists[number] = NULL;
    OK(queued ? image_cache_list_queued(cache, &lists[number], &error)
              : image_cache_list_cached(cache, &lists[number], &error));
    if (byte() % 2)
        return; /* it is walked later, or not at all */
    const image_cache_entry_t *entry;
    uint64_t seen = 0, expected = 0, last = 0;
    while (image_cache_list_next(lists[number], &entry)) {
        image_t *image = images;
        while (image < images + IMAGES && strcmp(image->id, entry->image_id) != 0)
            image++;
        SAYING(image < images + IMAGES, "%s", entry->image_id);
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

/* ---- Calls: the queue and housekeeping --------------------------------------------------------------------------- */

static void queue(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = true, expected = !image->queued && !image->cached && image->owner == NOBODY;
    TRACE("queue_image %.20s\n", image->id);
    OK(image_cache_queue_image(cache, image->id, &queued, &error));
    SAYING(queued == expected, "%.20s", image->id);
    if (queued)
        image->queued = true, image->queued_at = ++now;
}

typedef struct {
    image_cache_t *cache;
    uint64_t fetched, failed;
    stream_t stream;
} fetch_t;

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *writer)
{
    fetch_t *fetched = user_data;
    int number = 0;
    while (number < IMAGES && strcmp(images[number].id, id) != 0)
        number++;
    MUST(number < IMAGES && images[number].queued && !images[number].cached && images[number].owner == NOBODY);
    stream_t *stream = &fetched->stream;
    *stream = (stream_t){.image = number, .seed = ++next_seed, .expected = UINT64_MAX};
    bool being_cached = false;
    image_cache_writer_t *other = NULL;
    OK(image_cache_is_being_cached(fetched->cache, id, &being_cached, &error));
    MUST(being_cached);
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(fetched->cache, id, &other, &error));
    stream->size = some_length();
    fill(stream->seed, 0, stream->size);
    OK(image_cache_write_chunk(writer, buffer, stream->size, &error));
    unsigned choice = below(8);
    TRACE("  fetch %.20s: %u\n", id, choice);
    if (choice == 0)
        image_cache_abort(writer, "within");
    if (choice == 1)
        STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_commit(writer, &error));
    fetched->fetched += choice > 1 || choice == 1;
    fetched->failed += choice == 0 || choice == 2;
    if (choice == 2)
        fetched->fetched--;
    else if (choice > 0)
        publish(stream);
    return choice == 2 ? IMAGE_CACHE_ERROR_SOURCE : IMAGE_CACHE_OK;
}

static void prefetch(image_cache_t *cache)
{
    fetch_t expected = {.cache = cache};
    uint64_t fetched = 77, failed = 77;
    TRACE("prefetch\n");
    OK(image_cache_prefetch(cache, fetch, &expected, &fetched, &failed, &error));
    SAYING(fetched == expected.fetched && failed == expected.failed, "%" PRIu64 " and %" PRIu64, fetched, failed);
}

static void prune(image_cache_t *cache)
{
    uint64_t total = 0, count = 0, bytes = 0, images_gone = 77, bytes_gone = 77;
    TRACE("prune to %" PRIu64 "\n", limit);
    OK(image_cache_prune(cache, &images_gone, &bytes_gone, &error));
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

static void clean(image_cache_t *cache)
{
    uint64_t removed = 77;
    int64_t stall_time = byte() % 2 ? 0 : -1;
    TRACE("clean %d\n", (int)stall_time);
    OK(image_cache_clean(cache, stall_time, &removed, &error));
    for (int i = 0; stall_time == 0 && i < STREAMS; i++) {
        if (streams[i].owns)
            streams[i].lost = true;
        release(&streams[i]);
    }
}

static void delete_one(image_cache_t *cache)
{
    image_t *image = &images[below(IMAGES)];
    bool queued = byte() % 2;
    TRACE("delete_%s %.20s\n", queued ? "queued" : "cached", image->id);
    OK(queued ? image_cache_delete_queued_image(cache, image->id, &error)
              : image_cache_delete_cached_image(cache, image->id, &error));
    if (queued)
        image->queued = false;
    else if (image->cached)
        forget(image);
}

static void delete_all(image_cache_t *cache)
{
    bool queued = byte() % 2;
    uint64_t deleted = 77, expected = 0;
    TRACE("delete_all_%s\n", queued ? "queued" : "cached");
    OK(queued ? image_cache_delete_all_queued_images(cache, &deleted, &error)
              : image_cache_delete_all_cached_images(cache, &deleted, &error));
    for (int i = 0; i < IMAGES; i++) {
        expected += queued ? images[i].queued : images[i].cached;
        if (queued)
            images[i].queued = false;
        else if (images[i].cached)
            forget(&images[i]);
    }
    MUST(deleted == expected);
}

/* ---- Calls: ids that are none ------------------------------------------------------------------------------------ */

static void bad_id(image_cache_t *cache)
{
    unsigned choice = below(HOSTILE + 1);
    const char *id = choice < HOSTILE ? hostile[choice] : too_long_id;
    image_cache_writer_t *writer = (void *)1;
    image_cache_reader_t *reader = (void *)1;
    image_cache_tee_t *tee = (void *)1;
    bool answer = true;
    uint64_t number = 77;
    image_cache_status_t expected = IMAGE_CACHE_ERROR_INVALID_IMAGE_ID;
    TRACE("bad id %u\n", choice);
    switch (below(10)) {
    case 0: STATUS(expected, image_cache_begin_write(cache, id, &writer, &error)); MUST(writer == NULL); break;
    case 1: STATUS(expected, image_cache_open_for_read(cache, id, &reader, &error)); MUST(reader == NULL); break;
    case 2: STATUS(expected, image_cache_tee_open(cache, id, source, NULL, &tee, &error)); MUST(tee == NULL); break;
    case 3: STATUS(expected, image_cache_queue_image(cache, id, &answer, &error)); MUST(!answer); break;
    case 4: STATUS(expected, image_cache_delete_cached_image(cache, id, &error)); break;
    case 5: STATUS(expected, image_cache_delete_queued_image(cache, id, &error)); break;
    case 6: STATUS(expected, image_cache_is_cached(cache, id, &answer, &error)); MUST(!answer); break;
    case 7: STATUS(expected, image_cache_is_cacheable(cache, id, &answer, &error)); MUST(!answer); break;
    case 8: STATUS(expected, image_cache_get_image_size(cache, id, &number, &error)); MUST(number == 0); break;
    case 9: STATUS(expected, image_cache_get_hit_count(cache, id, &number, &error)); MUST(number == 0); break;
    }
}

/* Any bytes as an id: the calls agree on whether they are one. */
static void any_id(image_cache_t *cache)
{
    char id[16] = {0};
    size_t length = below(sizeof id);
    for (size_t i = 0; i < length; i++)
        id[i] = (char)byte();
    for (int i = 0; i < IMAGES; i++)
        if (strcmp(images[i].id, id) == 0)
            return;
    bool answer = true;
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status = image_cache_is_cached(cache, id, &answer, &error);
    MUST((status == IMAGE_CACHE_OK || status == IMAGE_CACHE_ERROR_INVALID_IMAGE_ID) && !answer);
    MUST(strchr(id, '/') == NULL || status != IMAGE_CACHE_OK);
    TRACE("any id %s\n", id);
    STATUS(status, image_cache_begin_write(cache, id, &writer, &error));
    image_cache_abort(writer, id); /* a reason in any bytes, too */
}

/* ---- Everything that must hold at every moment ------------------------------------------------------------------- */

static uint64_t files_in_directory(uint64_t *bytes)
{
    uint64_t files = 0;
    *bytes = 0;
    DIR *walk = opendir(directory);
    MUST(walk != NULL);
    for (struct dirent *found; (found = readdir(walk)) != NULL;) {
        struct stat status;
        bool is_index = strncmp(found->d_name, "cache.db", 8) == 0 || found->d_name[0] == '.';
        if (is_index || fstatat(dirfd(walk), found->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        files++;
        *bytes += (uint64_t)status.st_size;
    }
    closedir(walk);
    return files;
}

/* The file is the image: looked at without the library, which would count it as use. */
static void compare_file(const image_t *image)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, image->id);
    FILE *file = fopen(path, "rb");
    MUST(file != NULL);
    uint64_t at = 0;
    for (size_t length; (length = fread(buffer, 1, sizeof buffer, file)) > 0; at += length)
        same(image->seed, at, length);
    fclose(file);
    MUST(at == image->size);
}

static void compare(image_cache_t *cache)
{
    uint64_t total = 0, count = 0, number, files_bytes;
    for (int i = 0; i < IMAGES; i++) {
        image_t *image = &images[i];
        bool answer = !image->cached;
        OK(image_cache_is_cached(cache, image->id, &answer, &error));
        SAYING(answer == image->cached, "%.20s", image->id);
        OK(image_cache_is_queued(cache, image->id, &answer, &error));
        SAYING(answer == image->queued, "%.20s", image->id);
        OK(image_cache_is_being_cached(cache, image->id, &answer, &error));
        SAYING(answer == (image->owner != NOBODY), "%.20s", image->id);
        OK(image_cache_is_cacheable(cache, image->id, &answer, &error));
        SAYING(answer == (image->owner == NOBODY && !image->cached), "%.20s", image->id);
        STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
               image_cache_get_image_size(cache, image->id, &number, &error));
        SAYING(number == (image->cached ? image->size : 0), "%.20s", image->id);
        OK(image_cache_get_hit_count(cache, image->id, &number, &error));
        SAYING(!image->cached || !image->counted || number == image->hits, "%.20s: %" PRIu64, image->id, number);
        total += image->cached ? image->size : 0;
        count += image->cached;
        if (image->cached)
            compare_file(image);
    }
    OK(image_cache_get_cache_size(cache, &number, &error));
    SAYING(number == total, "%" PRIu64 " and %" PRIu64, number, total);
    MUST(files_in_directory(&files_bytes) == count && files_bytes == total);
}

/* ---- One input --------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_all(void) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void reopen(unsigned number)
{
    TRACE("open %u\n", number);
    image_cache_close(caches[number]);
    caches[number] = NULL;
    OK(image_cache_open(directory, options, &caches[number], &error));
}

static void one_call(void)
{
    unsigned number = below(CACHES);
    image_cache_t *cache = caches[number];
    switch (below(20)) {
    case 0: case 1: begin_write(cache); break;
    case 2: case 3: case 4: write_or_read_on(); break;
    case 5: case 6: end_stream(&streams[below(STREAMS)], true); break;
    case 7: end_stream(&streams[below(STREAMS)], false); break;
    case 8: open_tee(cache); break;
    case 9: expect(); break;
    case 10: open_reader(cache); break;
    case 11: read_on(); break;
    case 12: close_reader(&readers[below(READERS)]); break;
    case 13: list_images(cache); break;
    case 14: queue(cache); break;
    case 15: byte() % 4 == 0 ? prefetch(cache) : byte() % 2 ? prune(cache) : clean(cache); break;
    case 16: byte() % 4 == 0 ? delete_all(cache) : delete_one(cache); break;
    case 17: bad_id(cache); break;
    case 18: any_id(cache); break;
    case 19: byte() % 2 ? reopen(number) : compare(cache); break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/image-cache-fuzz-XXXXXX", parent != NULL ? parent : "/dev/shm");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        exit(1);
    }
    snprintf(directory, sizeof directory, "%s/cache", folder);
    atexit(remove_all);
    trace = getenv("FUZZ_TRACE") != NULL;
    memset(longest_id, 'x', sizeof longest_id - 1);
    memset(too_long_id, 'x', sizeof too_long_id - 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *const ids[IMAGES] = {"a", "b", "-rf", "with space", "\xc3\xbcml\xc3\xa4ut", longest_id};
    input = data, input_end = data + size;
    next_seed = 0, now = 0;
    remove_all();
    MUST(mkdir(folder, 0777) == 0);
    for (int i = 0; i < IMAGES; i++)
        images[i] = (image_t){.id = ids[i], .owner = NOBODY, .counted = true}, lives[i] = 0;
    unsigned flags = byte();
    limit = (uint64_t)some_length();
    memset(&error, 0x55, sizeof error);
    options = image_cache_options_new();
    OK(image_cache_options_set_driver(options, flags % 2 ? IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE : IMAGE_CACHE_DRIVER_SQLITE, &error));
    OK(image_cache_options_set_durability(options, IMAGE_CACHE_DURABILITY_NONE, &error));
    OK(image_cache_options_set_max_size(options, limit, &error));
    for (unsigned i = 0; i < CACHES; i++)
        reopen(i);
    for (int i = 0; i < CALLS && input < input_end; i++)
        one_call();
    for (int i = 0; i < CACHES; i++)
        compare(caches[i]);

    /* The end: caches first, or what was made from them first, as the input says. */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < CACHES && (flags >> 1) % 2 == (unsigned)round; i++) {
            image_cache_close(caches[i]);
            caches[i] = NULL;
        }
        for (int i = 0; i < STREAMS && round == 0; i++)
            end_stream(&streams[i], (flags >> 2) % 2);
        for (int i = 0; i < READERS && round == 0; i++)
            close_reader(&readers[i]);
        for (int i = 0; i < LISTS && round == 0; i++) {
            image_cache_list_free(lists[i]);
            lists[i] = NULL;
        }
    }

    /* Whatever was closed in whatever order: opened anew, the cache is what it was. */
    OK(image_cache_open(directory, options, &caches[0], &error));
    compare(caches[0]);
    image_cache_close(caches[0]);
    caches[0] = NULL;
    image_cache_options_free(options);
    return 0;
}
