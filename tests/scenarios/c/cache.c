/* Operations on a cache: open, close, queries, listings, the queue, deletes, prune and clean. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scenario.h"

/* The value of out parameters before a call, to test that a failure clears them. */
static const uint64_t UNCLEARED = 0xDEAD;

static void print_number(struct call *call, image_cache_status_t status, uint64_t number, const char *unit)
{
    if (report_out(call, status, number == 0))
        text_print(&call->result, " %" PRIu64 "%s", number, unit);
}

/* ---- open ---- */

static void count_message(void *user_data, int32_t level, const char *message)
{
    (void)level, (void)message;
    uint64_t *count = user_data;
    ++*count;
}

static int32_t driver_named(const char *name)
{
    static const char *const names[] = {"sqlite", "xattr", "xattr_or_sqlite"};
    for (int32_t i = 0; i < 3; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return 99; /* no such driver */
}

/* Sets the option of a word such as "max_size=5120". Returns false if there is no such option. */
static bool set_option(struct scenario *scenario, struct call *call, const struct text *word,
                       image_cache_options_t *options, struct text *directory, image_cache_status_t *status)
{
    const char *equals = strchr(word->bytes, '='), *value = equals != NULL ? equals + 1 : "";
    size_t length = equals != NULL ? (size_t)(equals - word->bytes) : 0;
    uint64_t number = 0;
    bool is_number = parse_number(value, &number);

#define IS(NAME) (length == strlen(NAME) && strncmp(word->bytes, NAME, length) == 0)
    if (IS("max_size") && is_number) {
        *status = image_cache_options_set_max_size(options, number, &call->error);
    } else if (IS("limit")) {
        int32_t mode = strcmp(value, "soft") == 0   ? IMAGE_CACHE_LIMIT_SOFT
                       : strcmp(value, "hard") == 0 ? IMAGE_CACHE_LIMIT_HARD
                                                    : 99;
        *status = image_cache_options_set_limit_mode(options, mode, &call->error);
    } else if (IS("min_free") && is_number) {
        *status = image_cache_options_set_min_free(options, number, 0, &call->error);
    } else if (IS("min_free_percent") && is_number) {
        *status = image_cache_options_set_min_free(options, 0, (uint32_t)number, &call->error);
    } else if (IS("min_free_inodes") && is_number) {
        *status = image_cache_options_set_min_free_inodes(options, number, 0, &call->error);
    } else if (IS("max_pinned") && is_number) {
        *status = image_cache_options_set_max_pinned(options, (uint32_t)number, &call->error);
    } else if (IS("stall_time") && is_number) {
        *status = image_cache_options_set_stall_time(options, number, &call->error);
    } else if (IS("database")) {
        *status = image_cache_options_set_database(options, value, &call->error);
    } else if (IS("driver")) {
        *status = image_cache_options_set_driver(options, driver_named(value), &call->error);
    } else if (IS("formats")) {
        *status = image_cache_options_set_formats(options, value, &call->error);
    } else if (IS("durability")) {
        int32_t durability = strcmp(value, "none") == 0   ? IMAGE_CACHE_DURABILITY_NONE
                             : strcmp(value, "full") == 0 ? IMAGE_CACHE_DURABILITY_FULL
                                                          : 99;
        *status = image_cache_options_set_durability(options, durability, &call->error);
    } else if (IS("directory")) {
        text_free(directory);
        text_print(directory, "%s/cache/%s", scenario->root, value);
    } else {
        return false;
    }
#undef IS
    return true;
}

static void open_cache(struct scenario *scenario, struct call *call)
{
    struct handle *handle = call->arguments[0].handle;
    struct text directory = {NULL, 0};
    image_cache_options_t *options = image_cache_options_new();
    image_cache_status_t status = image_cache_options_set_driver(options, scenario->driver, &call->error);
    bool valid = true, own_driver = false;

    text_print(&directory, "%s/cache", scenario->root);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_options_set_log(options, count_message, &handle->log_messages, &call->error);
    for (size_t i = 1; i < call->count && valid && status == IMAGE_CACHE_OK; i++) {
        valid = set_option(scenario, call, &TEXT(i), options, &directory, &status);
        own_driver = own_driver || strncmp(TEXT(i).bytes, "driver=", strlen("driver=")) == 0;
    }
    if (!own_driver && scenario->driver == IMAGE_CACHE_DRIVER_XATTR && !has_user_attributes(scenario->root)) {
        scenario->skipped = no_user_attributes;
    } else if (!valid) {
        bad_line(call, "no such option");
    } else if (status != IMAGE_CACHE_OK) {
        report(call, status);
    } else {
        handle->is.any = scenario; /* anything but NULL */
        status = image_cache_open(directory.bytes, options, &handle->is.cache, &call->error);
        if (report_out(call, status, handle->is.cache == NULL))
            scenario->cache = handle;
        else
            handle->is.cache = NULL;
    }
    image_cache_options_free(options);
    text_free(&directory);
}

OPERATION(select_cache)
{
    scenario->cache = call->arguments[0].handle;
    text_print(&call->result, "OK");
}

OPERATION(close_cache)
{
    image_cache_close(HANDLE(0).cache);
    HANDLE(0).any = NULL;
    text_print(&call->result, "OK");
}

OPERATION(get_driver)
{
    int32_t driver = image_cache_get_driver(CACHE);
    text_print(&call->result, "OK %s",
               driver == IMAGE_CACHE_DRIVER_SQLITE  ? "sqlite"
               : driver == IMAGE_CACHE_DRIVER_XATTR ? "xattr"
                                                    : "?");
}

OPERATION(has_logged) { text_print(&call->result, "OK %s", scenario->cache->log_messages > 0 ? "true" : "false"); }

/* ---- queries that return a bool or a number ---- */

#define YES_OR_NO(NAME)                                                                                                \
    OPERATION(NAME)                                                                                                    \
    {                                                                                                                  \
        bool value = true;                                                                                             \
        image_cache_status_t status = image_cache_##NAME(CACHE, TEXT(0).bytes, &value, &call->error);                  \
        if (report_out(call, status, !value))                                                                          \
            text_print(&call->result, value ? " true" : " false");                                                     \
    }

YES_OR_NO(is_cached)
YES_OR_NO(is_being_cached)
YES_OR_NO(is_queued)
YES_OR_NO(is_cacheable)
YES_OR_NO(queue_image)

OPERATION(get_cache_size)
{
    uint64_t bytes = UNCLEARED;
    image_cache_status_t status = image_cache_get_cache_size(CACHE, &bytes, &call->error);
    print_number(call, status, bytes, "");
}

OPERATION(get_image_size)
{
    uint64_t bytes = UNCLEARED;
    image_cache_status_t status = image_cache_get_image_size(CACHE, TEXT(0).bytes, &bytes, &call->error);
    print_number(call, status, bytes, "");
}

OPERATION(get_hit_count)
{
    uint64_t hits = UNCLEARED;
    image_cache_status_t status = image_cache_get_hit_count(CACHE, TEXT(0).bytes, &hits, &call->error);
    print_number(call, status, hits, "");
}

/* ---- lists ---- */

enum { MAX_LISTED = 256 };

struct access {
    int64_t last_accessed;
    struct text image_id;
};

static int by_last_access(const void *one, const void *other)
{
    int64_t a = ((const struct access *)one)->last_accessed, b = ((const struct access *)other)->last_accessed;
    return a < b ? -1 : a > b;
}

static void print_id(struct text *result, const char *image_id)
{
    text_print(result, " ");
    text_escape(result, image_id, strlen(image_id));
}

typedef image_cache_status_t list_function(const image_cache_t *, image_cache_list_t **, image_cache_error_t *);

/* Opens a list of images. Reports a failure and returns NULL. */
static image_cache_list_t *open_list(struct scenario *scenario, struct call *call, list_function *function)
{
    char anything;
    image_cache_list_t *list = (image_cache_list_t *)(void *)&anything;
    image_cache_status_t status = function(CACHE, &list, &call->error);
    return report_out(call, status, list == NULL) ? list : NULL;
}

static void print_image(struct text *result, const image_cache_entry_t *entry)
{
    print_id(result, entry->image_id);
    text_print(result, ",%" PRIu64 ",%" PRIu64 ",%s", entry->size, entry->hits,
               entry->digest == NULL                           ? "-"
               : strncmp(entry->digest, "crc64nvme:", 10) == 0 ? "crc"
                                                               : entry->digest);
}

OPERATION(list_cached)
{
    const image_cache_entry_t *entry;
    image_cache_list_t *list = open_list(scenario, call, image_cache_list_cached);
    bool empty = list != NULL;
    for (; list != NULL && image_cache_list_next(list, &entry); empty = false)
        print_image(&call->result, entry);
    text_print(&call->result, empty ? " none" : "");
    image_cache_list_free(list);
}

OPERATION(get_image)
{
    const image_cache_entry_t *entry;
    char anything;
    image_cache_list_t *list = (image_cache_list_t *)(void *)&anything;
    image_cache_status_t status = image_cache_get_image(CACHE, TEXT(0).bytes, &list, &call->error);
    if (report_out(call, status, list == NULL)) {
        while (image_cache_list_next(list, &entry))
            print_image(&call->result, entry);
        image_cache_list_free(list);
    }
}

/* Prints ids, sizes and reasons. */
static void list_uncached(struct scenario *scenario, struct call *call, list_function *function)
{
    const image_cache_entry_t *entry;
    image_cache_list_t *list = open_list(scenario, call, function);
    bool empty = list != NULL;
    for (; list != NULL && image_cache_list_next(list, &entry); empty = false) {
        const char *reason = entry->reason != NULL ? entry->reason : "-";
        print_id(&call->result, entry->image_id);
        text_print(&call->result, ",%" PRIu64 ",", entry->size);
        text_escape(&call->result, reason, strlen(reason));
    }
    text_print(&call->result, empty ? " none" : "");
    image_cache_list_free(list);
}

OPERATION(list_incomplete) { list_uncached(scenario, call, image_cache_list_incomplete); }

OPERATION(list_invalid) { list_uncached(scenario, call, image_cache_list_invalid); }

OPERATION(list_queued)
{
    const image_cache_entry_t *entry;
    image_cache_list_t *list = open_list(scenario, call, image_cache_list_queued);
    bool empty = list != NULL;
    for (; list != NULL && image_cache_list_next(list, &entry); empty = false)
        print_id(&call->result, entry->image_id);
    text_print(&call->result, empty ? " none" : "");
    image_cache_list_free(list);
}

OPERATION(access_order)
{
    const image_cache_entry_t *entry;
    struct access accesses[MAX_LISTED];
    size_t count = 0;
    image_cache_list_t *list = open_list(scenario, call, image_cache_list_cached);
    while (list != NULL && count < MAX_LISTED && image_cache_list_next(list, &entry)) {
        accesses[count] = (struct access){entry->last_accessed, {NULL, 0}};
        text_print(&accesses[count++].image_id, "%s", entry->image_id);
    }
    qsort(accesses, count, sizeof accesses[0], by_last_access);
    for (size_t i = 0; i < count; i++) {
        print_id(&call->result, accesses[i].image_id.bytes);
        text_free(&accesses[i].image_id);
    }
    text_print(&call->result, list != NULL && count == 0 ? " none" : "");
    image_cache_list_free(list);
}

/* ---- the queue, deletes, prune, clean ---- */

OPERATION(delete_queued_image) { report(call, image_cache_delete_queued_image(CACHE, TEXT(0).bytes, &call->error)); }

OPERATION(delete_all_queued_images)
{
    uint64_t deleted = UNCLEARED;
    image_cache_status_t status = image_cache_delete_all_queued_images(CACHE, &deleted, &call->error);
    print_number(call, status, deleted, " deleted");
}

OPERATION(delete_cached_image) { report(call, image_cache_delete_cached_image(CACHE, TEXT(0).bytes, &call->error)); }

YES_OR_NO(delete_unused_image)

OPERATION(delete_all_cached_images)
{
    uint64_t deleted = UNCLEARED;
    image_cache_status_t status = image_cache_delete_all_cached_images(CACHE, &deleted, &call->error);
    print_number(call, status, deleted, " deleted");
}

static void print_pruned(struct call *call, image_cache_status_t status, uint64_t images, uint64_t bytes)
{
    if (report_out(call, status, images == 0 && bytes == 0))
        text_print(&call->result, " %" PRIu64 " images %" PRIu64 " bytes", images, bytes);
}

OPERATION(set_max_size) { report(call, image_cache_set_max_size(CACHE, NUMBER(0), &call->error)); }

/* In whole MiB: file systems differ in what they add to the bytes. */
OPERATION(get_usage)
{
    image_cache_usage_t usage;
    memset(&usage, 0xff, sizeof usage);
    image_cache_status_t status = image_cache_get_usage(CACHE, &usage, sizeof usage, &call->error);
    if (report_out(call, status, usage.cached == 0 && usage.limit == 0))
        text_print(&call->result, " %" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 " %s %" PRIu64,
                   usage.cached >> 20, usage.incomplete >> 20, usage.reserved >> 20, usage.invalid >> 20,
                   usage.deleted >> 20, usage.is_hard == 1 ? "hard" : "soft", usage.limit);
}

OPERATION(prune)
{
    uint64_t images = UNCLEARED, bytes = UNCLEARED;
    image_cache_status_t status = image_cache_prune(CACHE, &images, &bytes, &call->error);
    print_pruned(call, status, images, bytes);
}

OPERATION(prune_to)
{
    uint64_t images = UNCLEARED, bytes = UNCLEARED;
    image_cache_status_t status = image_cache_prune_to(CACHE, NUMBER(0), &images, &bytes, &call->error);
    print_pruned(call, status, images, bytes);
}

OPERATION(make_room)
{
    uint64_t images = UNCLEARED, bytes = UNCLEARED;
    image_cache_status_t status = image_cache_make_room(CACHE, NUMBER(0), &images, &bytes, &call->error);
    print_pruned(call, status, images, bytes);
}

OPERATION(pin_image) { report(call, image_cache_pin(CACHE, TEXT(0).bytes, TEXT(1).bytes, NUMBER(2), &call->error)); }

OPERATION(unpin_image) { report(call, image_cache_unpin(CACHE, TEXT(0).bytes, TEXT(1).bytes, &call->error)); }

OPERATION(pinned)
{
    const int64_t minute = INT64_C(60000000000);
    const image_cache_entry_t *entry;
    char anything;
    image_cache_list_t *list = (image_cache_list_t *)(void *)&anything;
    image_cache_status_t status = image_cache_get_image(CACHE, TEXT(0).bytes, &list, &call->error);
    if (!report_out(call, status, list == NULL))
        return;
    if (image_cache_list_next(list, &entry)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t left = entry->pinned_until - (now.tv_sec * INT64_C(1000000000) + now.tv_nsec);
        if (entry->pinned_until == 0)
            text_print(&call->result, " no");
        else if (entry->pinned_until == INT64_MAX)
            text_print(&call->result, " for_life");
        else
            text_print(&call->result, " %" PRId64 " min", (left + minute - 1) / minute);
    }
    image_cache_list_free(list);
}

/* The fields by their names. */
static const struct {
    const char *name;
    size_t offset;
} statistics_fields[] = {
#define FIELD(NAME)                                                                                                    \
    {                                                                                                                  \
#NAME, offsetof(image_cache_statistics_t, NAME)                                                                \
    }
    FIELD(images),
    FIELD(bytes),
    FIELD(allocated),
    FIELD(limit),
    FIELD(free),
    FIELD(next_victim_idle),
    FIELD(hits),
    FIELD(misses),
    FIELD(commits),
    FIELD(aborted_by_call),
    FIELD(closed_early),
    FIELD(wrong_digest),
    FIELD(wrong_size),
    FIELD(no_space),
    FIELD(lost),
    FIELD(source_failed),
    FIELD(other_failures),
    FIELD(evictions),
    FIELD(evicted_bytes),
    FIELD(streams_followed),
    FIELD(bytes_not_fetched),
    FIELD(bytes_served),
    FIELD(verified),
    FIELD(found_damaged),
#undef FIELD
};

OPERATION(statistics)
{
    image_cache_statistics_t statistics;
    memset(&statistics, 7, sizeof statistics);
    image_cache_status_t status = image_cache_get_statistics(CACHE, &statistics, sizeof statistics, &call->error);
    if (!report_out(call, status, statistics.images == 0 && statistics.found_damaged == 0))
        return;
    for (size_t i = 0; i < call->count; i++) {
        size_t field = 0, count = sizeof statistics_fields / sizeof statistics_fields[0];
        while (field < count && strcmp(statistics_fields[field].name, TEXT(i).bytes) != 0)
            field++;
        if (field == count) {
            bad_line(call, "no such field");
            return;
        }
        uint64_t number;
        memcpy(&number, (const char *)&statistics + statistics_fields[field].offset, sizeof number);
        text_print(&call->result, " %" PRIu64, number);
    }
}

struct stop {
    uint64_t at, calls;
};

static int32_t stop_at(void *user_data, const char *image_id, uint64_t done, uint64_t total)
{
    (void)image_id, (void)done, (void)total;
    struct stop *stop = user_data;
    return ++stop->calls == stop->at;
}

/* The options, from the word `first` on, are rate=N, skip=N and stop=N: the N-th call of the progress function stops it. */
static void verify(struct scenario *scenario, struct call *call, const char *id, size_t first)
{
    struct stop stop = {0, 0};
    image_cache_verify_options_t options = {0};
    options.progress = stop_at, options.user_data = &stop;
    for (size_t i = first; i < call->count; i++) {
        const char *word = TEXT(i).bytes;
        uint64_t *value = strncmp(word, "rate=", 5) == 0   ? &options.bytes_per_second
                          : strncmp(word, "skip=", 5) == 0 ? &options.skip_seconds
                          : strncmp(word, "stop=", 5) == 0 ? &stop.at
                                                           : NULL;
        if (value == NULL || !parse_number(word + 5, value)) {
            bad_line(call, "no such option");
            return;
        }
    }
    image_cache_verify_result_t result = {7, 7, 7, 7, 7, 7, 7};
    const image_cache_verify_result_t cleared = {0, 0, 0, 0, 0, 0, 0};
    image_cache_status_t status =
        image_cache_verify(CACHE, id, &options, sizeof options, &result, sizeof result, &call->error);
    if (report_out(call, status, memcmp(&result, &cleared, sizeof result) == 0))
        text_print(&call->result,
                   " %" PRIu64 " verified %" PRIu64 " failed %" PRIu64 " unreadable %" PRIu64 " without %" PRIu64
                   " skipped %" PRIu64 " bytes%s",
                   result.verified, result.failed, result.unreadable, result.without_digest, result.skipped,
                   result.bytes_read, result.stopped == 1 ? " stopped" : "");
}

OPERATION(verify_all) { verify(scenario, call, NULL, 0); }

OPERATION(verify_one) { verify(scenario, call, TEXT(0).bytes, 1); }

OPERATION(clean)
{
    uint64_t removed = UNCLEARED;
    image_cache_status_t status = image_cache_clean(CACHE, (int64_t)call->arguments[0].number, &removed, &call->error);
    print_number(call, status, removed, " removed");
}

const struct operation cache_operations[] = {
    {"open", "C*", open_cache},
    {"use", "c", select_cache},
    {"close", "c", close_cache},
    {"get_driver", "@", get_driver},
    {"has_logged", "@", has_logged},
    {"is_cached", "@t", is_cached},
    {"is_being_cached", "@t", is_being_cached},
    {"is_queued", "@t", is_queued},
    {"is_cacheable", "@t", is_cacheable},
    {"get_cache_size", "@", get_cache_size},
    {"get_image_size", "@t", get_image_size},
    {"get_hit_count", "@t", get_hit_count},
    {"list_cached", "@", list_cached},
    {"list_queued", "@", list_queued},
    {"get_image", "@t", get_image},
    {"list_incomplete", "@", list_incomplete},
    {"list_invalid", "@", list_invalid},
    {"access_order", "@", access_order},
    {"queue_image", "@t", queue_image},
    {"delete_queued_image", "@t", delete_queued_image},
    {"delete_all_queued_images", "@", delete_all_queued_images},
    {"delete_cached_image", "@t", delete_cached_image},
    {"delete_unused_image", "@t", delete_unused_image},
    {"delete_all_cached_images", "@", delete_all_cached_images},
    {"set_max_size", "@n", set_max_size},
    {"get_usage", "@", get_usage},
    {"prune", "@", prune},
    {"prune_to", "@n", prune_to},
    {"make_room", "@n", make_room},
    {"pin", "@ttn", pin_image},
    {"unpin", "@tt", unpin_image},
    {"pinned", "@t", pinned},
    {"statistics", "@*", statistics},
    {"verify_all", "@*", verify_all},
    {"verify", "@t*", verify_one},
    {"clean", "@s", clean},
    {NULL, NULL, NULL},
};
