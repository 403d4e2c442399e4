/*
 * Handles may be closed in any order. Writers, readers, tees, streams and lists keep working after their cache was
 * closed, and committed images stay cached.
 */
#include <image_cache.h>

#include "check.h"

#include <sys/resource.h>

enum { CACHE, WRITER, READER, TEE, LIST, HANDLES };

static struct {
    image_cache_t *cache;
    image_cache_writer_t *writer;
    image_cache_reader_t *reader;
    image_cache_tee_t *tee;
    image_cache_list_t *list;
    text_source_t source;
} handles;

static void open_all(void)
{
    handles.cache = open_cache("cache");
    handles.source = (text_source_t){"teed bytes", 0, 4, 0};
    cache_image(handles.cache, "cached", "cached bytes");
    OK(image_cache_begin_write(handles.cache, "written", &handles.writer, &check_error));
    OK(image_cache_open_for_read(handles.cache, "cached", &handles.reader, &check_error));
    OK(image_cache_tee_open(handles.cache, "teed", read_text, &handles.source, &handles.tee, &check_error));
    OK(image_cache_list_cached(handles.cache, &handles.list, &check_error));
}

/* Uses a handle and closes it. Any other handles may be closed by then. */
static void use_and_close(int handle, bool commit)
{
    const image_cache_entry_t *entry = NULL;
    char buffer[64];
    size_t length = 1;
    bool cached = false;
    switch (handle) {
    case CACHE:
        OK(image_cache_is_cached(handles.cache, "cached", &cached, &check_error));
        CHECK(cached);
        image_cache_close(handles.cache);
        break;
    case WRITER:
        OK(image_cache_write_chunk(handles.writer, "written bytes", 13, &check_error));
        if (commit)
            OK(image_cache_commit(handles.writer, &check_error));
        else
            image_cache_abort(handles.writer, "tested");
        break;
    case READER:
        check_rest(handles.reader, "cached bytes");
        image_cache_reader_close(handles.reader);
        break;
    case TEE:
        OK(image_cache_tee_read(handles.tee, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 4 && image_cache_tee_is_caching(handles.tee));
        while (commit && length > 0)
            OK(image_cache_tee_read(handles.tee, buffer, sizeof buffer, &length, &check_error));
        image_cache_tee_close(handles.tee);
        break;
    default:
        CHECK(image_cache_list_next(handles.list, &entry) && strcmp(entry->image_id, "cached") == 0);
        CHECK(entry->size == 12 && !image_cache_list_next(handles.list, &entry) && entry == NULL);
        image_cache_list_free(handles.list);
    }
}

static void try_order(const int order[HANDLES], bool commit)
{
    open_all();
    for (int i = 0; i < HANDLES; i++)
        use_and_close(order[i], commit);

    image_cache_t *cache = open_cache("cache");
    CHECK(is_cached(cache, "written") == commit && is_cached(cache, "teed") == commit);
    CHECK(exists(in_directory("cache/invalid/written")) != commit
          && exists(in_directory("cache/invalid/teed")) != commit);
    CHECK(!exists(in_directory("cache/incomplete/written")) && !exists(in_directory("cache/incomplete/teed")));
    CHECK(hits_of(cache, "cached") == 1); /* also of a reader that outlived its cache */
    if (commit)
        check_image(cache, "written", "written bytes");
    uint64_t count = 0;
    OK(image_cache_delete_all_cached_images(cache, &count, &check_error));
    CHECK(count == (commit ? 3 : 1));
    OK(image_cache_clean(cache, 0, &count, &check_error));
    CHECK(count == (commit ? 0 : 2));
    image_cache_close(cache);
}

/* Tries each permutation of `order` from index `from` on. */
static int try_all_orders(int order[HANDLES], int from, int tried)
{
    if (from == HANDLES) {
        try_order(order, tried % 2 == 0);
        return tried + 1;
    }
    for (int i = from; i < HANDLES; i++) {
        int first = order[i];
        order[i] = order[from], order[from] = first;
        tried = try_all_orders(order, from + 1, tried);
        order[from] = order[i], order[i] = first;
    }
    return tried;
}

/* A reader can read an image that was deleted or replaced after the open. */
static void image_deleted_under_its_reader(void)
{
    image_cache_t *cache = open_cache("cache");
    image_cache_reader_t *reader = NULL;
    cache_image(cache, "image", "first");
    OK(image_cache_open_for_read(cache, "image", &reader, &check_error));
    CHECK(access(image_cache_reader_path(reader), R_OK) == 0);
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    CHECK(access(image_cache_reader_path(reader), R_OK) == -1);
    cache_image(cache, "image", "second");
    check_rest(reader, "first");
    CHECK(image_cache_reader_size(reader) == 5);
    image_cache_reader_close(reader);
    check_image(cache, "image", "second");
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

/* A writer whose file was cleaned gets LOST. Another writer may cache the image meanwhile. */
static void file_cleaned_under_its_writer(void)
{
    image_cache_t *cache = open_cache("cache");
    image_cache_writer_t *stalled = NULL;
    OK(image_cache_begin_write(cache, "image", &stalled, &check_error));
    OK(image_cache_write_chunk(stalled, "stalled", 7, &check_error));
    uint64_t removed = 0;
    sleep(1);
    OK(image_cache_clean(cache, 0, &removed, &check_error));
    CHECK(removed == 1);
    cache_image(cache, "image", "another");
    STATUS(IMAGE_CACHE_ERROR_LOST, image_cache_write_chunk(stalled, "more", 4, &check_error));
    STATUS(IMAGE_CACHE_ERROR_LOST, image_cache_commit(stalled, &check_error));
    check_image(cache, "image", "another");
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

/* Several handles of one directory in one process share the cache and are closed independently. */
static void several_caches_of_one_directory(void)
{
    image_cache_t *caches[8];
    for (int i = 0; i < 8; i++)
        caches[i] = open_cache("cache");
    cache_image(caches[0], "shared", "shared");
    for (int i = 0; i < 8; i++) {
        check_image(caches[i], "shared", "shared");
        if (i < 7)
            image_cache_close(caches[i]);
    }
    CHECK(hits_of(caches[7], "shared") == 8);
    image_cache_writer_t *writer = NULL;
    STATUS(IMAGE_CACHE_ERROR_ALREADY_CACHED, image_cache_begin_write(caches[7], "shared", &writer, &check_error));
    image_cache_close(caches[7]);
}

/* A commit needs no further descriptor, so it works when the process has none left. */
static void commit_without_a_free_descriptor(void)
{
    for (int durability = IMAGE_CACHE_DURABILITY_NONE; durability <= IMAGE_CACHE_DURABILITY_FULL; durability++) {
        image_cache_options_t *options = new_options();
        image_cache_t *cache = NULL;
        image_cache_writer_t *writer = NULL;
        int duplicates[256], count = 0;
        struct rlimit before, few;
        OK(image_cache_options_set_durability(options, durability, &check_error));
        OK(image_cache_open(in_directory("cache"), options, &cache, &check_error));
        OK(image_cache_begin_write(cache, "last", &writer, &check_error));
        OK(image_cache_write_chunk(writer, "last", 4, &check_error));
        CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
        few = before;
        few.rlim_cur = 64;
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        while (count < 256 && (duplicates[count] = dup(0)) >= 0)
            count++;
        CHECK(count < 256 && errno == EMFILE);
        OK(image_cache_commit(writer, &check_error));
        while (count > 0)
            close(duplicates[--count]);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        check_image(cache, "last", "last");
        OK(image_cache_delete_cached_image(cache, "last", &check_error));
        image_cache_close(cache);
        image_cache_options_free(options);
    }
}

static image_cache_stream_t *open_stream(image_cache_t *cache, const char *id, text_source_t *source)
{
    image_cache_stream_t *stream = NULL;
    OK(image_cache_stream_open(cache, id, read_text_at, source, &stream, &check_error));
    return stream;
}

/* Reads to the end. */
static void check_stream(image_cache_stream_t *stream, const char *text)
{
    char buffer[64];
    size_t length = 1, total = 0;
    while (length > 0) {
        OK(image_cache_stream_read(stream, buffer + total, sizeof buffer - total, &length, &check_error));
        total += length;
    }
    CHECK(total == strlen(text) && memcmp(buffer, text, total) == 0);
}

/* Two streams of an image outlive their cache, in each order of closing. The second one fetches what the first did not. */
static void streams_that_outlive_their_cache(void)
{
    for (int order = 0; order < 4; order++) {
        image_cache_t *cache = open_cache("streams");
        text_source_t sources[] = {{"streamed bytes", 0, 5, 0}, {"streamed bytes", 0, 5, 0}};
        image_cache_stream_t *first = open_stream(cache, "image", &sources[0]);
        image_cache_stream_t *second = open_stream(cache, "image", &sources[1]);
        char buffer[5];
        size_t length = 0;
        OK(image_cache_stream_read(first, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 5 && image_cache_stream_role(first) == IMAGE_CACHE_STREAM_FETCHING);
        OK(image_cache_stream_read(second, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 5 && image_cache_stream_role(second) == IMAGE_CACHE_STREAM_FOLLOWING);
        image_cache_stream_close(second);
        second = open_stream(cache, "image", &sources[1]);
        if (order % 2 == 0)
            image_cache_close(cache);
        if (order / 2 == 0) {
            image_cache_stream_close(first);
            check_stream(second, "streamed bytes");
            CHECK(sources[0].calls == 1 && sources[1].calls == 3); /* two pieces and the end */
        } else {
            check_stream(second, "streamed bytes");
            OK(image_cache_stream_read(first, buffer, sizeof buffer, &length, &check_error));
            CHECK(length == 5 && memcmp(buffer, "med b", 5) == 0);
            image_cache_stream_close(first);
        }
        image_cache_stream_close(second);
        if (order % 2 != 0)
            image_cache_close(cache);
        cache = open_cache("streams");
        check_image(cache, "image", "streamed bytes");
        OK(image_cache_delete_cached_image(cache, "image", &check_error));
        image_cache_close(cache);
    }
}

/* A stream without participants stays, and another handle resumes it. An unused stream leaves nothing. */
static void streams_that_are_closed_early(void)
{
    image_cache_t *cache = open_cache("streams");
    text_source_t source = {"streamed bytes", 0, 5, 0};
    char buffer[5];
    size_t length = 0;
    image_cache_stream_close(open_stream(cache, "unused", &source));
    CHECK(!exists(in_directory("streams/incomplete/unused")) && source.calls == 0);
    image_cache_stream_t *stream = open_stream(cache, "image", &source);
    OK(image_cache_stream_read(stream, buffer, sizeof buffer, &length, &check_error));
    image_cache_stream_close(stream);
    image_cache_close(cache);
    CHECK(exists(in_directory("streams/incomplete/image")) && source.calls == 1);

    cache = open_cache("streams");
    bool cached = true;
    OK(image_cache_wait_cached(cache, "image", 60000, &cached, &check_error));
    CHECK(!cached); /* nobody fetches it */
    stream = open_stream(cache, "image", &source);
    check_stream(stream, "streamed bytes");
    CHECK(source.calls == 4);
    OK(image_cache_wait_cached(cache, "image", 0, &cached, &check_error));
    CHECK(cached);
    image_cache_stream_close(stream);
    image_cache_close(cache);
}

/* A source that reads from or closes its own tee is refused, and the tee keeps working. */
typedef struct {
    image_cache_tee_t *tee;
    text_source_t text;
} recursive_t;

static int64_t read_own_tee(void *user_data, void *buffer, size_t capacity)
{
    recursive_t *recursive = user_data;
    char own[8];
    size_t length = 77;
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT,
           image_cache_tee_read(recursive->tee, own, sizeof own, &length, &check_error));
    CHECK(length == 0);
    image_cache_tee_close(recursive->tee);
    return read_text(&recursive->text, buffer, capacity);
}

static void tee_used_by_its_own_source(void)
{
    image_cache_t *cache = open_cache("cache");
    recursive_t recursive = {.text = {.text = "recursive", .step = 4}};
    OK(image_cache_tee_open(cache, "recursive", read_own_tee, &recursive, &recursive.tee, &check_error));
    char buffer[16];
    size_t length = 0, total = 0;
    do {
        OK(image_cache_tee_read(recursive.tee, buffer + total, sizeof buffer - total, &length, &check_error));
        total += length;
    } while (length > 0);
    CHECK(total == 9 && memcmp(buffer, "recursive", 9) == 0);
    image_cache_tee_close(recursive.tee);
    check_image(cache, "recursive", "recursive");
    image_cache_close(cache);
}

/* The same of a stream. */
typedef struct {
    image_cache_t *cache;
    image_cache_stream_t *stream;
    text_source_t text;
} recursive_stream_t;

static int64_t read_own_stream(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    recursive_stream_t *recursive = user_data;
    char own[8];
    size_t length = 77;
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT,
           image_cache_stream_read(recursive->stream, own, sizeof own, &length, &check_error));
    CHECK(length == 0);
    length = 77;
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT,
           image_cache_stream_read_at(recursive->stream, 0, own, sizeof own, &length, &check_error));
    CHECK(length == 0 && image_cache_stream_available(recursive->stream) == 0);
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_stream_set_timeout(recursive->stream, 1, &check_error));
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_stream_expect_size(recursive->stream, 9, &check_error));
    CHECK(image_cache_stream_role(recursive->stream) == IMAGE_CACHE_STREAM_ALONE);
    image_cache_stream_close(recursive->stream);
    CHECK(!is_cached(recursive->cache, "recursive")); /* other calls are allowed */
    return read_text_at(&recursive->text, offset, buffer, capacity);
}

static void stream_used_by_its_own_source(void)
{
    recursive_stream_t recursive = {.cache = open_cache("recursive"), .text = {.text = "recursive", .step = 4}};
    OK(image_cache_stream_open(recursive.cache, "recursive", read_own_stream, &recursive, &recursive.stream,
                               &check_error));
    check_stream(recursive.stream, "recursive");
    image_cache_stream_close(recursive.stream);
    check_image(recursive.cache, "recursive", "recursive");
    image_cache_close(recursive.cache);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    int order[HANDLES] = {CACHE, WRITER, READER, TEE, LIST};
    CHECK(try_all_orders(order, 0, 0) == 120);
    image_deleted_under_its_reader();
    file_cleaned_under_its_writer();
    several_caches_of_one_directory();
    commit_without_a_free_descriptor();
    tee_used_by_its_own_source();
    streams_that_outlive_their_cache();
    streams_that_are_closed_early();
    stream_used_by_its_own_source();
    return 0;
}
