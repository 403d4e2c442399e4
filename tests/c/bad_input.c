/*
 * Invalid values, and calls at the wrong time. Each gives a status, and cached images stay.
 * null_arguments.c tests NULL.
 */
#include <image_cache.h>

#include "check.h"

#define REFUSED(call) STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, call)

static const char EMPTY_SHA256[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static image_cache_writer_t *begin(image_cache_t *cache, const char *id)
{
    image_cache_writer_t *writer = NULL;
    OK(image_cache_begin_write(cache, id, &writer, &check_error));
    return writer;
}

static void statuses_and_versions(void)
{
    static const struct {
        image_cache_status_t status;
        const char *name;
    } names[] = {
        {IMAGE_CACHE_OK, "IMAGE_CACHE_OK"},
        {IMAGE_CACHE_ERROR_INVALID_ARGUMENT, "IMAGE_CACHE_ERROR_INVALID_ARGUMENT"},
        {IMAGE_CACHE_ERROR_INVALID_IMAGE_ID, "IMAGE_CACHE_ERROR_INVALID_IMAGE_ID"},
        {IMAGE_CACHE_ERROR_NOT_FOUND, "IMAGE_CACHE_ERROR_NOT_FOUND"},
        {IMAGE_CACHE_ERROR_ALREADY_CACHED, "IMAGE_CACHE_ERROR_ALREADY_CACHED"},
        {IMAGE_CACHE_ERROR_BEING_CACHED, "IMAGE_CACHE_ERROR_BEING_CACHED"},
        {IMAGE_CACHE_ERROR_DIGEST_MISMATCH, "IMAGE_CACHE_ERROR_DIGEST_MISMATCH"},
        {IMAGE_CACHE_ERROR_SIZE_MISMATCH, "IMAGE_CACHE_ERROR_SIZE_MISMATCH"},
        {IMAGE_CACHE_ERROR_NO_SPACE, "IMAGE_CACHE_ERROR_NO_SPACE"},
        {IMAGE_CACHE_ERROR_IO, "IMAGE_CACHE_ERROR_IO"},
        {IMAGE_CACHE_ERROR_INDEX, "IMAGE_CACHE_ERROR_INDEX"},
        {IMAGE_CACHE_ERROR_UNSUPPORTED, "IMAGE_CACHE_ERROR_UNSUPPORTED"},
        {IMAGE_CACHE_ERROR_LOST, "IMAGE_CACHE_ERROR_LOST"},
        {IMAGE_CACHE_ERROR_SOURCE, "IMAGE_CACHE_ERROR_SOURCE"},
        {IMAGE_CACHE_ERROR_FORKED, "IMAGE_CACHE_ERROR_FORKED"},
        {IMAGE_CACHE_ERROR_INTERNAL, "IMAGE_CACHE_ERROR_INTERNAL"},
        {IMAGE_CACHE_ERROR_NO_MEMORY, "IMAGE_CACHE_ERROR_NO_MEMORY"},
        {IMAGE_CACHE_ERROR_TIMED_OUT, "IMAGE_CACHE_ERROR_TIMED_OUT"},
        {IMAGE_CACHE_ERROR_REFUSED, "IMAGE_CACHE_ERROR_REFUSED"},
        {IMAGE_CACHE_ERROR_PINNED, "IMAGE_CACHE_ERROR_PINNED"},
        {-20, "IMAGE_CACHE_ERROR_UNKNOWN"},
        {1, "IMAGE_CACHE_ERROR_UNKNOWN"},
        {INT32_MIN, "IMAGE_CACHE_ERROR_UNKNOWN"},
        {INT32_MAX, "IMAGE_CACHE_ERROR_UNKNOWN"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(strcmp(image_cache_status_name(names[i].status), names[i].name) == 0);
    for (int32_t i = 0; i < 20; i++) /* the numbers are part of the ABI */
        CHECK(names[i].status == -i);

    CHECK(sizeof(image_cache_error_t) == 512);
    CHECK(image_cache_version_number()
          == (IMAGE_CACHE_VERSION_MAJOR << 16 | IMAGE_CACHE_VERSION_MINOR << 8 | IMAGE_CACHE_VERSION_PATCH));
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", IMAGE_CACHE_VERSION_MAJOR, IMAGE_CACHE_VERSION_MINOR,
             IMAGE_CACHE_VERSION_PATCH);
    CHECK(strcmp(image_cache_version(), version) == 0);
}

static void unknown_enumerators_and_names(void)
{
    image_cache_options_t *options = new_options();
    REFUSED(image_cache_options_set_driver(options, 3, &check_error));
    REFUSED(image_cache_options_set_driver(options, -1, &check_error));
    REFUSED(image_cache_options_set_driver(options, INT32_MAX, &check_error));
    REFUSED(image_cache_options_set_durability(options, 2, &check_error));
    REFUSED(image_cache_options_set_durability(options, INT32_MIN, &check_error));
    static const char *const names[] = {"",           "a/b",     "/tmp/cache.db", "..",  ".",
                                        "incomplete", "invalid", "queue",         "./db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        REFUSED(image_cache_options_set_database(options, names[i], &check_error));

    image_cache_t *cache = NULL; /* a refused value leaves the earlier one */
    OK(image_cache_open(in_directory("options"), options, &cache, &check_error));
    CHECK(image_cache_get_driver(cache) == check_driver);
    CHECK(exists(in_directory("options/cache.db")) == (check_driver == IMAGE_CACHE_DRIVER_SQLITE));
    image_cache_close(cache);
    image_cache_options_free(options);
}

static void bad_image_ids(image_cache_t *cache)
{
    char longest[257];
    memset(longest, 'x', sizeof longest);
    longest[256] = '\0';
    /* clang-format off */
    const char *const ids[] = {"",           ".",       "..",    "../../etc/passwd", "a/b",         "/etc/passwd",
                               ".hidden",    "a\nb",    "a\x7f", "a\x01",            "\xff\xfe",    "a\xc3",
                               "incomplete", "invalid", "queue", "cache.db",         "cache.db-wal", "cache.db-shm",
                               "cache.db-journal", longest};
    /* clang-format on */
    bool value = true;
    uint64_t number = 7;
    image_cache_writer_t *writer = NULL;
    image_cache_reader_t *reader = NULL;
    image_cache_tee_t *tee = NULL;
    image_cache_stream_t *stream = NULL;
    text_source_t source = {"text", 0, 4, 0};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const char *id = ids[i];
#define BAD_ID(call) STATUS(IMAGE_CACHE_ERROR_INVALID_IMAGE_ID, call)
        BAD_ID(image_cache_is_cached(cache, id, &value, &check_error));
        BAD_ID(image_cache_is_being_cached(cache, id, &value, &check_error));
        BAD_ID(image_cache_is_queued(cache, id, &value, &check_error));
        value = true;
        BAD_ID(image_cache_is_cacheable(cache, id, &value, &check_error));
        CHECK(!value);
        BAD_ID(image_cache_get_image_size(cache, id, &number, &check_error));
        BAD_ID(image_cache_get_hit_count(cache, id, &number, &check_error));
        BAD_ID(image_cache_begin_write(cache, id, &writer, &check_error));
        BAD_ID(image_cache_open_for_read(cache, id, &reader, &check_error));
        BAD_ID(image_cache_tee_open(cache, id, read_text, &source, &tee, &check_error));
        BAD_ID(image_cache_stream_open(cache, id, read_text_at, &source, &stream, &check_error));
        value = true;
        BAD_ID(image_cache_wait_cached(cache, id, 0, &value, &check_error));
        CHECK(!value && stream == NULL);
        BAD_ID(image_cache_queue_image(cache, id, &value, &check_error));
        BAD_ID(image_cache_delete_queued_image(cache, id, &check_error));
        BAD_ID(image_cache_delete_cached_image(cache, id, &check_error));
        BAD_ID(image_cache_delete_unused_image(cache, id, &value, &check_error));
        CHECK(writer == NULL && reader == NULL && tee == NULL && number == 0);
    }
    longest[255] = '\0'; /* 255 bytes are the longest file name, and the longest id */
    cache_image(cache, longest, "long");
    check_image(cache, longest, "long");
    OK(image_cache_delete_cached_image(cache, longest, &check_error));
    cache_image(cache, "\xc3\xa4 and a space", "text");
    OK(image_cache_delete_cached_image(cache, "\xc3\xa4 and a space", &check_error));
}

static void absent_images(image_cache_t *cache)
{
    image_cache_reader_t *reader = (void *)&reader;
    uint64_t number = 7;
    STATUS(IMAGE_CACHE_ERROR_NOT_FOUND, image_cache_open_for_read(cache, "absent", &reader, &check_error));
    CHECK(reader == NULL);
    STATUS(IMAGE_CACHE_ERROR_NOT_FOUND, image_cache_get_image_size(cache, "absent", &number, &check_error));
    CHECK(number == 0);
    CHECK(hits_of(cache, "absent") == 0);
    OK(image_cache_delete_cached_image(cache, "absent", &check_error));
    OK(image_cache_delete_queued_image(cache, "absent", &check_error));
}

static void bad_expectations(image_cache_t *cache)
{
    image_cache_writer_t *writer = begin(cache, "expectations");
    /* clang-format off */
    static const char *const hex[] = {"", "foobar", "d41d8cd98f00b204e9800998ecf8427",
                                      "d41d8cd98f00b204e9800998ecf8427e0", "g41d8cd98f00b204e9800998ecf8427e",
                                      " 41d8cd98f00b204e9800998ecf8427e"};
    /* clang-format on */
    for (size_t i = 0; i < sizeof hex / sizeof *hex; i++)
        REFUSED(image_cache_writer_expect_digest(writer, "md5", hex[i], &check_error));
    REFUSED(image_cache_writer_expect_digest(writer, "sha512", EMPTY_SHA256, &check_error));
    STATUS(IMAGE_CACHE_ERROR_UNSUPPORTED, image_cache_writer_expect_digest(writer, "crc32", "00000000", &check_error));
    STATUS(IMAGE_CACHE_ERROR_UNSUPPORTED, image_cache_writer_expect_digest(writer, "", EMPTY_SHA256, &check_error));
    OK(image_cache_write_chunk(writer, "x", 1, &check_error));
    REFUSED(image_cache_writer_expect_size(writer, 1, &check_error)); /* too late */
    REFUSED(image_cache_writer_expect_digest(writer, "sha256", EMPTY_SHA256, &check_error));
    OK(image_cache_commit(writer, &check_error)); /* refused expectations are not checked */
    check_image(cache, "expectations", "x");
    STATUS(IMAGE_CACHE_ERROR_ALREADY_CACHED, image_cache_begin_write(cache, "expectations", &writer, &check_error));
    CHECK(writer == NULL);
}

static void failed_expectations(image_cache_t *cache)
{
    image_cache_writer_t *writer = begin(cache, "long"), *second = (void *)&second;
    STATUS(IMAGE_CACHE_ERROR_BEING_CACHED, image_cache_begin_write(cache, "long", &second, &check_error));
    CHECK(second == NULL);
    OK(image_cache_writer_expect_size(writer, 5, &check_error));
    OK(image_cache_write_chunk(writer, "1234", 4, &check_error));
    STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_write_chunk(writer, "56", 2, &check_error));
    /* The failure is final. */
    STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_write_chunk(writer, "5", 1, &check_error));
    STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_commit(writer, &check_error));
    CHECK(!is_cached(cache, "long") && exists(in_directory("cache/invalid/long")));

    writer = begin(cache, "short");
    OK(image_cache_writer_expect_size(writer, UINT64_MAX, &check_error));
    OK(image_cache_write_chunk(writer, "1234", 4, &check_error));
    STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_commit(writer, &check_error));
    CHECK(!is_cached(cache, "short") && exists(in_directory("cache/invalid/short")));

    writer = begin(cache, "wrong");
    OK(image_cache_writer_expect_digest(writer, "sha256", EMPTY_SHA256, &check_error));
    OK(image_cache_write_chunk(writer, "not empty", 9, &check_error));
    STATUS(IMAGE_CACHE_ERROR_DIGEST_MISMATCH, image_cache_commit(writer, &check_error));
    CHECK(!is_cached(cache, "wrong") && exists(in_directory("cache/invalid/wrong")));

    writer = begin(cache, "aborted");
    image_cache_abort(writer, NULL); /* the reason is optional */
    CHECK(!is_cached(cache, "aborted") && !exists(in_directory("cache/incomplete/aborted")));
}

static void empty_image(image_cache_t *cache)
{
    image_cache_writer_t *writer = begin(cache, "empty");
    OK(image_cache_writer_expect_size(writer, 0, &check_error));
    OK(image_cache_writer_expect_digest(writer, "sha256", EMPTY_SHA256, &check_error));
    OK(image_cache_write_chunk(writer, NULL, 0, &check_error));
    OK(image_cache_commit(writer, &check_error));
    uint64_t bytes = 7;
    OK(image_cache_get_image_size(cache, "empty", &bytes, &check_error));
    CHECK(bytes == 0 && is_cached(cache, "empty"));
    image_cache_reader_t *reader = NULL;
    OK(image_cache_open_for_read(cache, "empty", &reader, &check_error));
    CHECK(image_cache_reader_size(reader) == 0);
    check_rest(reader, "");
    char byte;
    size_t length = 7;
    OK(image_cache_read_at(reader, UINT64_MAX, &byte, 1, &length, &check_error)); /* beyond the end */
    CHECK(length == 0);
    image_cache_reader_close(reader);

    writer = begin(cache, "null with a length");
    REFUSED(image_cache_write_chunk(writer, NULL, 1, &check_error));
    image_cache_abort(writer, "tested");
}

static int64_t overflowing_source(void *user_data, void *buffer, size_t capacity)
{
    (void)user_data;
    memset(buffer, 'x', capacity);
    return (int64_t)capacity + 1;
}

static int64_t failing_source(void *user_data, void *buffer, size_t capacity)
{
    (void)user_data, (void)buffer, (void)capacity;
    return INT64_MIN;
}

static void bad_sources(image_cache_t *cache)
{
    char buffer_of_source[8];
    const image_cache_source_fn sources[] = {overflowing_source, failing_source};
    for (size_t i = 0; i < 2; i++) {
        image_cache_tee_t *tee = NULL;
        char buffer[16];
        size_t length = 7;
        OK(image_cache_tee_open(cache, "teed", sources[i], NULL, &tee, &check_error));
        STATUS(IMAGE_CACHE_ERROR_SOURCE, image_cache_tee_read(tee, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 0);
        image_cache_tee_close(tee);
        CHECK(!is_cached(cache, "teed") && !exists(in_directory("cache/incomplete/teed")));
    }
    /* A source that returns 0 by accident, as a ctypes function that raises, publishes nothing if that is refused. */
    text_source_t nothing = {"", 0, 4, 0};
    image_cache_tee_t *empty = NULL;
    size_t none = 7;
    OK(image_cache_tee_open(cache, "teed", read_text, &nothing, &empty, &check_error));
    OK(image_cache_tee_refuse_empty(empty, &check_error));
    for (int i = 0; i < 2; i++) {
        STATUS(IMAGE_CACHE_ERROR_SIZE_MISMATCH, image_cache_tee_read(empty, buffer_of_source, 8, &none, &check_error));
        CHECK(none == 0 && strstr(check_error.message, "is empty") != NULL);
    }
    image_cache_tee_close(empty);
    CHECK(!is_cached(cache, "teed"));
    /* A refused expectation can cost the tee its caching. It still delivers every byte. */
    text_source_t text = {"delivered", 0, 4, 0};
    image_cache_tee_t *tee = NULL;
    char all[64];
    size_t length = 1, total = 0;
    OK(image_cache_tee_open(cache, "teed", read_text, &text, &tee, &check_error));
    REFUSED(image_cache_tee_expect_digest(tee, "md5", "foobar", &check_error));
    while (length > 0) {
        OK(image_cache_tee_read(tee, all + total, sizeof all - total, &length, &check_error));
        total += length;
        if (total > 0)
            REFUSED(image_cache_tee_expect_size(tee, 9, &check_error)); /* too late */
    }
    CHECK(total == 9 && memcmp(all, "delivered", 9) == 0);
    image_cache_tee_close(tee);
}

static int64_t overflowing_range(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    (void)offset;
    return overflowing_source(user_data, buffer, capacity);
}

static int64_t failing_range(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    (void)offset;
    return failing_source(user_data, buffer, capacity);
}

/* A failed source is final for its own stream. The others go on, from the same file. */
static void bad_ranges(image_cache_t *cache)
{
    const image_cache_range_source_fn sources[] = {overflowing_range, failing_range};
    text_source_t good = {"streamed bytes", 0, 5, 0};
    char buffer[16];
    size_t length = 7, total = 0;
    image_cache_stream_t *participant = NULL;
    OK(image_cache_stream_open(cache, "streamed", read_text_at, &good, &participant, &check_error));
    OK(image_cache_stream_read(participant, buffer, 5, &total, &check_error));
    for (size_t i = 0; i < 2; i++) {
        image_cache_stream_t *stream = NULL;
        OK(image_cache_stream_open(cache, "streamed", sources[i], NULL, &stream, &check_error));
        OK(image_cache_stream_read(stream, buffer + 8, 8, &length, &check_error)); /* the participant's */
        CHECK(length == 5 && memcmp(buffer + 8, "strea", 5) == 0);
        STATUS(IMAGE_CACHE_ERROR_SOURCE, image_cache_stream_read_at(stream, 9, buffer + 8, 8, &length, &check_error));
        for (int again = 0; again < 2; again++) {
            length = 7;
            STATUS(IMAGE_CACHE_ERROR_SOURCE, image_cache_stream_read(stream, buffer + 8, 8, &length, &check_error));
            CHECK(length == 0);
        }
        image_cache_stream_close(stream);
    }
    for (length = 1; length > 0; total += length)
        OK(image_cache_stream_read(participant, buffer + total, sizeof buffer - total, &length, &check_error));
    CHECK(total == 14 && memcmp(buffer, "streamed bytes", 14) == 0);
    image_cache_stream_close(participant);
    check_image(cache, "streamed", "streamed bytes");
}

static void bad_calls_of_streams(image_cache_t *cache)
{
    text_source_t source = {"bytes", 0, 5, 0};
    image_cache_stream_t *stream = NULL;
    char buffer[16];
    size_t length = 7;
    OK(image_cache_stream_open(cache, "calls", read_text_at, &source, &stream, &check_error));
    OK(image_cache_stream_expect_size(stream, 5, &check_error));
    OK(image_cache_stream_expect_size(stream, 5, &check_error));
    REFUSED(image_cache_stream_expect_size(stream, 6, &check_error)); /* the first one stays */
    REFUSED(image_cache_stream_expect_digest(stream, "md5", "foobar", &check_error));
    STATUS(IMAGE_CACHE_ERROR_UNSUPPORTED, image_cache_stream_expect_digest(stream, "crc32", "00000000", &check_error));
    REFUSED(image_cache_stream_set_source_timeout(stream, 0, &check_error));
    OK(image_cache_stream_set_source_timeout(stream, UINT64_MAX, &check_error));
    OK(image_cache_stream_set_timeout(stream, UINT64_MAX, &check_error));
    OK(image_cache_stream_read_at(stream, UINT64_MAX, buffer, sizeof buffer, &length, &check_error));
    CHECK(length == 0 && source.calls == 0); /* beyond the expected size */
    OK(image_cache_stream_read(stream, buffer, 2, &length, &check_error));
    CHECK(length == 2 && memcmp(buffer, "by", 2) == 0);
    REFUSED(image_cache_stream_expect_size(stream, 5, &check_error)); /* too late */
    REFUSED(image_cache_stream_expect_digest(stream, "sha256", EMPTY_SHA256, &check_error));
    OK(image_cache_stream_read(stream, buffer, sizeof buffer, &length, &check_error));
    CHECK(length == 3 && memcmp(buffer, "tes", 3) == 0);
    for (int again = 0; again < 2; again++) {
        length = 7;
        OK(image_cache_stream_read(stream, buffer, sizeof buffer, &length, &check_error));
        CHECK(length == 0);
    }
    image_cache_stream_close(stream);
    check_image(cache, "calls", "bytes");
    bool cached = false;
    OK(image_cache_wait_cached(cache, "calls", UINT64_MAX, &cached, &check_error));
    CHECK(cached);
    OK(image_cache_wait_cached(cache, "absent", UINT64_MAX, &cached, &check_error));
    CHECK(!cached);
}

/* The callback of prefetch does not own the writer: it cannot commit it. */
static image_cache_status_t end_the_writer(void *user_data, const char *id, image_cache_writer_t *writer)
{
    (void)user_data;
    if (strcmp(id, "commits") == 0)
        REFUSED(image_cache_commit(writer, &check_error));
    if (strcmp(id, "aborts") == 0)
        image_cache_abort(writer, "the callback's reason");
    if (strcmp(id, "odd status") == 0)
        return 12345;
    OK(strcmp(id, "aborts") == 0 ? IMAGE_CACHE_OK : image_cache_write_chunk(writer, id, strlen(id), &check_error));
    return IMAGE_CACHE_OK;
}

static void callbacks_that_end_the_writer(image_cache_t *cache)
{
    bool queued = false;
    uint64_t fetched = 7, failed = 7;
    static const char *const ids[] = {"commits", "aborts", "odd status", "good"};
    for (size_t i = 0; i < 4; i++)
        OK(image_cache_queue_image(cache, ids[i], &queued, &check_error));
    OK(image_cache_prefetch(cache, end_the_writer, NULL, &fetched, &failed, &check_error));
    CHECK(fetched + failed == 4 && is_cached(cache, "good"));
    CHECK(!is_cached(cache, "aborts") && !is_cached(cache, "odd status"));
    OK(image_cache_is_queued(cache, "aborts", &queued, &check_error));
    CHECK(queued);
    OK(image_cache_delete_all_queued_images(cache, &failed, &check_error));
}

static void stall_times(image_cache_t *cache)
{
    static const int64_t times[] = {-1, INT64_MIN, INT64_MAX, 86400};
    image_cache_writer_t *writer = begin(cache, "slow");
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        uint64_t removed = 0;
        OK(image_cache_clean(cache, times[i], &removed, &check_error));
        CHECK(exists(in_directory("cache/incomplete/slow")));
    }
    OK(image_cache_write_chunk(writer, "slow", 4, &check_error));
    OK(image_cache_commit(writer, &check_error));
}

/* Programs that were compiled with an older or a newer header. */
static void usage_of_other_headers(void)
{
    struct {
        image_cache_usage_t known;
        uint64_t newer[2];
    } usage;
    image_cache_t *cache = NULL;
    OK(image_cache_open(in_directory("usage"), NULL, &cache, &check_error));
    memset(&usage, 7, sizeof usage);
    OK(image_cache_get_usage(cache, &usage.known, sizeof usage, &check_error));
    CHECK(usage.known.limit == UINT64_C(10) << 30 && usage.newer[0] == 0 && usage.newer[1] == 0);
    memset(&usage, 7, sizeof usage);
    OK(image_cache_get_usage(cache, &usage.known, sizeof usage.known.cached, &check_error));
    CHECK(usage.known.cached == 0 && usage.known.incomplete == UINT64_C(0x0707070707070707));
    const size_t sizes[] = {0, 4097, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_get_usage(cache, &usage.known, sizes[i], &check_error));
    OK(image_cache_set_max_size(cache, UINT64_MAX, &check_error));
    OK(image_cache_set_max_size(cache, 0, &check_error));
    image_cache_close(cache);
}

static void limits(void)
{
    static const uint64_t sizes[] = {UINT64_MAX, 0};
    for (size_t i = 0; i < 2; i++) {
        image_cache_options_t *options = new_options();
        image_cache_t *cache = NULL;
        OK(image_cache_options_set_max_size(options, sizes[i], &check_error));
        OK(image_cache_options_set_stall_time(options, UINT64_MAX, &check_error));
        OK(image_cache_open(in_directory("limits"), options, &cache, &check_error));
        if (i == 0)
            cache_image(cache, "one", "12345");
        uint64_t images = 7, bytes = 7, removed = 7;
        OK(image_cache_prune(cache, &images, &bytes, &check_error));
        CHECK(images == i && bytes == 5 * i);
        OK(image_cache_clean(cache, -1, &removed, &check_error));
        CHECK(removed == 0);
        image_cache_close(cache);
        image_cache_options_free(options);
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    image_cache_t *cache = open_cache("cache");
    cache_image(cache, "before", "cached before");

    statuses_and_versions();
    unknown_enumerators_and_names();
    bad_image_ids(cache);
    absent_images(cache);
    bad_expectations(cache);
    failed_expectations(cache);
    empty_image(cache);
    bad_sources(cache);
    bad_ranges(cache);
    bad_calls_of_streams(cache);
    callbacks_that_end_the_writer(cache);
    stall_times(cache);
    usage_of_other_headers();
    limits();

    check_image(cache, "before", "cached before");
    image_cache_close(cache);
    return 0;
}
