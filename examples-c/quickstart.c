/*
 * quickstart: the main job of libimage_cache in one sitting.
 *
 *     quickstart IMAGE_FILE CACHE_DIR [sqlite|xattr] [--sha256 HEX | --md5 HEX]
 *
 * IMAGE_FILE stands for the slow remote store. The program caches it, prefetches a second image, reads the first one
 * and compares it with its source, lists the cache, prunes and cleans. Give it a CACHE_DIR of its own: step 5 prunes
 * to 1.5 times the image's size. Run it twice: the second run finds the image cached.
 *
 * Build it with:  cc quickstart.c -limage_cache -o quickstart
 *
 * Three rules hold for all of it:
 *   - a call that can fail returns a status, and fills an error struct of yours, its last parameter;
 *   - a function named begin_, _open or _new makes a handle, and exactly one call ends that handle;
 *   - closing NULL does nothing, so one exit path can close everything.
 */
#define _POSIX_C_SOURCE 200809L /* for clock_gettime, fstat, localtime_r; the library itself needs C99 only */

#include <image_cache.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { CHUNK = 1 << 20 }; /* any size works */
static char chunk[CHUNK], other_chunk[CHUNK];

/* What a catalogue has of an image before it is fetched: its location, size and digest. */
typedef struct {
    const char *path;
    uint64_t size;
    const char *algorithm;     /* "md5", "sha256" or "sha512" */
    const char *digest;        /* in hex, or NULL for no expectation */
    image_cache_error_t error; /* of the fetch function, which returns a status only */
} source_t;

/* ---- Helpers that are not about the cache ------------------------------------------------------------------------ */

static const char *human(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024; unit++)
        value /= 1024;
    snprintf(text, 24, unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

static const char *plural(uint64_t count) { return count == 1 ? "" : "s"; }

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The caller owns the error struct, so it can carry the program's own failures, too. */
static image_cache_status_t set_error(image_cache_error_t *error, const char *path, const char *why)
{
    error->status = IMAGE_CACHE_ERROR_SOURCE;
    snprintf(error->message, sizeof error->message, "%s: %s", path, why);
    return error->status;
}

/* ---- Fetching: from the store into a writer ---------------------------------------------------------------------- */

/* Writes the whole source to a writer, chunk by chunk. The caller ends the writer. */
static image_cache_status_t fetch(const source_t *source, image_cache_writer_t *writer, image_cache_error_t *error)
{
    /* Set expectations before the first chunk. The writer computes the digest chunk by chunk. With another digest the
     * commit fails, the image is not published, and the file goes to CACHE_DIR/invalid. */
    image_cache_status_t status = image_cache_writer_expect_size(writer, source->size, error);
    if (status == IMAGE_CACHE_OK && source->digest != NULL)
        status = image_cache_writer_expect_digest(writer, source->algorithm, source->digest, error);
    if (status != IMAGE_CACHE_OK)
        return status;

    FILE *file = fopen(source->path, "rb");
    if (file == NULL)
        return set_error(error, source->path, strerror(errno));
    size_t length;
    while (status == IMAGE_CACHE_OK && (length = fread(chunk, 1, sizeof chunk, file)) > 0)
        status = image_cache_write_chunk(writer, chunk, length, error);
    if (status == IMAGE_CACHE_OK && ferror(file))
        status = set_error(error, source->path, strerror(errno));
    fclose(file);
    return status;
}

/* begin_write, chunks, commit. No reader sees the image before the commit; each sees all of it afterwards. */
static bool cache_image(image_cache_t *cache, const char *id, const source_t *source, image_cache_error_t *error)
{
    printf("\n1. Cache an image\n");
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status = image_cache_begin_write(cache, id, &writer, error);
    if (status == IMAGE_CACHE_ERROR_ALREADY_CACHED) {
        printf("   %-10s %s is cached already, nothing is fetched\n", "ready", id);
        return true;
    }
    if (status != IMAGE_CACHE_OK)
        return false;

    double start = seconds();
    if (fetch(source, writer, error) != IMAGE_CACHE_OK) {
        /* Ends the writer, and stores the reason with the file in invalid/. */
        image_cache_abort(writer, error->message);
        return false;
    }
    if (image_cache_commit(writer, error) != IMAGE_CACHE_OK) /* ends the writer, with every status */
        return false;

    double time = seconds() - start;
    uint64_t chunks = (source->size + CHUNK - 1) / CHUNK;
    char size[24], rate[24];
    printf("   %-10s %s\n", "cached", id);
    printf("   %-10s %s in %" PRIu64 " chunk%s, safe on disk after %.3f s (%s/s)\n", "written",
           human(source->size, size), chunks, plural(chunks), time,
           human((uint64_t)((double)source->size / (time > 0 ? time : 1)), rate));
    if (source->digest != NULL)
        printf("   %-10s %s %.16s... as expected\n", "verified", source->algorithm, source->digest);
    return true;
}

/* Prefetch calls this for each queued image. It commits the writer on OK, and aborts it on any other status. */
static image_cache_status_t fetch_queued(void *user_data, const char *id, image_cache_writer_t *writer)
{
    source_t *source = user_data;
    (void)id; /* an agent finds the image by its id; this store has one image only */
    return fetch(source, writer, &source->error);
}

static bool prefetch(image_cache_t *cache, const char *id, source_t *source, image_cache_error_t *error)
{
    printf("\n2. Queue a second image and prefetch it\n");
    bool queued = false;
    uint64_t fetched = 0, failed = 0;
    if (image_cache_queue_image(cache, id, &queued, error) != IMAGE_CACHE_OK)
        return false;
    printf("   %-10s %s%s\n", "queued", id, queued ? "" : " (was queued or cached before)");
    if (image_cache_prefetch(cache, fetch_queued, source, &fetched, &failed, error) != IMAGE_CACHE_OK)
        return false;
    printf("   %-10s %" PRIu64 " image%s, %" PRIu64 " failed\n", "fetched", fetched, plural(fetched), failed);
    if (failed > 0) /* a failed image stays queued for the next prefetch; the others are cached */
        *error = source->error;
    return failed == 0;
}

/* ---- Serving: from the cache to a reader ------------------------------------------------------------------------- */

/* An image that is open is not evicted. Its reader can read it to the end, even if the image is deleted meanwhile. */
static bool read_back(image_cache_t *cache, const char *id, const source_t *source, image_cache_error_t *error)
{
    printf("\n3. Read the first image from the cache\n");
    image_cache_reader_t *reader = NULL;
    if (image_cache_open_for_read(cache, id, &reader, error) != IMAGE_CACHE_OK)
        return false;
    FILE *file = fopen(source->path, "rb");
    image_cache_status_t status = file != NULL ? IMAGE_CACHE_OK : set_error(error, source->path, strerror(errno));
    double start = seconds();
    uint64_t total = 0;
    size_t length = 1; /* 0 marks the end */
    while (status == IMAGE_CACHE_OK && length > 0) {
        status = image_cache_read(reader, chunk, sizeof chunk, &length, error);
        if (status == IMAGE_CACHE_OK
            && (fread(other_chunk, 1, length, file) != length || memcmp(chunk, other_chunk, length) != 0))
            status = set_error(error, source->path, "differs from the cached image");
        total += length;
    }
    if (status == IMAGE_CACHE_OK && fgetc(file) != EOF)
        status = set_error(error, source->path, "is longer than the cached image");
    if (file != NULL)
        fclose(file);
    image_cache_reader_close(reader); /* counts one hit */
    if (status != IMAGE_CACHE_OK)
        return false;
    char size[24];
    printf("   %-10s %s in %.3f s\n", "read", human(total, size), seconds() - start);
    printf("   %-10s the same, byte for byte, as %s\n", "compared", source->path);
    return true;
}

/* A list is a snapshot: later commits and deletions do not change it. */
static bool list_images(image_cache_t *cache, image_cache_error_t *error)
{
    printf("\n4. List the cached images\n");
    image_cache_list_t *list = NULL;
    if (image_cache_list_cached(cache, &list, error) != IMAGE_CACHE_OK)
        return false;
    printf("   %-30s %10s  %4s  %-19s  %s\n", "IMAGE", "SIZE", "HITS", "LAST ACCESS", "DIGEST");
    const image_cache_entry_t *entry; /* owned by the list, and valid until the next call */
    while (image_cache_list_next(list, &entry)) {
        char size[24], accessed[24];
        struct tm local;
        time_t when = (time_t)(entry->last_accessed / 1000000000); /* nanoseconds since 1970 */
        strftime(accessed, sizeof accessed, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &local));
        printf("   %-30s %10s  %4" PRIu64 "  %s  %.23s\n", entry->image_id, human(entry->size, size), entry->hits,
               accessed, entry->digest != NULL ? entry->digest : "-");
    }
    image_cache_list_free(list);
    return true;
}

/* ---- Housekeeping: every few minutes, in an agent ---------------------------------------------------------------- */

/* Evicts the least recently used images until the rest fits max_size, an option of image_cache_open(). */
static bool prune(image_cache_t *cache, uint64_t limit, image_cache_error_t *error)
{
    uint64_t images = 0, bytes = 0, left = 0;
    char text[24], size[24];
    printf("\n5. Prune to %s, least recently used first\n", human(limit, text));
    if (image_cache_prune(cache, &images, &bytes, error) != IMAGE_CACHE_OK
        || image_cache_get_cache_size(cache, &left, error) != IMAGE_CACHE_OK)
        return false;
    printf("   %-10s %s in %" PRIu64 " image%s\n", "removed", human(bytes, size), images, plural(images));
    printf("   %-10s %s\n", "left", human(left, size));
    return true;
}

/* A failed or stalled fetch leaves a file, for diagnosis, until the next clean. */
static bool clean(image_cache_t *cache, const char *id, image_cache_error_t *error)
{
    printf("\n6. Clean up after a failed fetch\n");
    image_cache_writer_t *writer = NULL;
    uint64_t removed = 0;
    if (image_cache_begin_write(cache, id, &writer, error) != IMAGE_CACHE_OK)
        return false;
    image_cache_abort(writer, "the store closed the connection");
    printf("   %-10s %s, kept in invalid/ with the reason\n", "aborted", id);
    if (image_cache_clean(cache, -1, &removed, error) != IMAGE_CACHE_OK) /* -1: the stall time of the options, a day */
        return false;
    printf("   %-10s %" PRIu64 " file%s of failed or stalled fetches\n", "removed", removed, plural(removed));
    return true;
}

static bool run(source_t *source, const char *directory, int32_t driver, image_cache_error_t *error)
{
    const char *slash = strrchr(source->path, '/');
    const char *id = slash != NULL ? slash + 1 : source->path; /* an id must be a valid file name */
    char second[300], broken[300];
    snprintf(second, sizeof second, "%s.second", id);
    snprintf(broken, sizeof broken, "%s.broken", id);
    struct stat file;
    if (stat(source->path, &file) != 0) {
        set_error(error, source->path, strerror(errno));
        return false;
    }
    source->size = (uint64_t)file.st_size;
    uint64_t limit = source->size + source->size / 2; /* room for one of our two images */
    /* Open reads the options once; NULL means SQLite, 10 GiB and full durability. It creates the directory, but not its
     * parent. Many threads may use the handle at once, and many processes the directory. */
    image_cache_t *cache = NULL;
    image_cache_options_t *options = image_cache_options_new();
    /* clang-format off */
    bool ok = image_cache_options_set_driver(options, driver, error) == IMAGE_CACHE_OK
              && image_cache_options_set_max_size(options, limit, error) == IMAGE_CACHE_OK
              && image_cache_open(directory, options, &cache, error) == IMAGE_CACHE_OK
              && cache_image(cache, id, source, error)
              && prefetch(cache, second, source, error)
              && read_back(cache, id, source, error)
              && list_images(cache, error)
              && prune(cache, limit, error)
              && clean(cache, broken, error);
    /* clang-format on */
    image_cache_close(cache);
    image_cache_options_free(options);
    return ok;
}

int main(int argc, char **argv)
{
    source_t source = {0};
    const char *directory = NULL, *driver = NULL;
    bool usage = false;
    for (int i = 1; i < argc; i++) {
        if ((strcmp(argv[i], "--sha256") == 0 || strcmp(argv[i], "--md5") == 0) && i + 1 < argc) {
            source.algorithm = argv[i] + 2;
            source.digest = argv[++i];
        } else {
            const char **next = !source.path ? &source.path : !directory ? &directory : !driver ? &driver : NULL;
            usage = usage || next == NULL || argv[i][0] == '-';
            if (next != NULL)
                *next = argv[i];
        }
    }
    bool xattr = driver != NULL && strcmp(driver, "xattr") == 0;
    if (usage || directory == NULL || (driver != NULL && !xattr && strcmp(driver, "sqlite") != 0)) {
        fprintf(stderr, "usage: %s IMAGE_FILE CACHE_DIR [sqlite|xattr] [--sha256 HEX | --md5 HEX]\n", argv[0]);
        return 2;
    }
    printf("libimage_cache %s, %s driver, cache in %s\n", image_cache_version(), xattr ? "xattr" : "SQLite", directory);
    image_cache_error_t error = {0};
    if (run(&source, directory, xattr ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE, &error))
        return 0;
    fflush(stdout);
    fprintf(stderr, "quickstart: %s (%s)\n", error.message, image_cache_status_name(error.status));
    return 1;
}
