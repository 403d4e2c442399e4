/*
 * A fuzzer of the C ABI: its input is a list of calls. Handles are opened, used and closed in any order, with ids that no
 * image can have, on two handles of one cache directory. A small model in memory knows what each call must bring about;
 * what differs from it ends the process.
 *
 *     calls [libFuzzer's options] [CORPUS_FOLDER...]      see scripts/fuzz.sh; FUZZ_TRACE=1 prints the calls
 *
 * The same bytes are the same calls: nothing depends on time, on chance, or on what ran before. The cache is in $TMPDIR,
 * /dev/shm or /tmp, with durability none, and is made anew for each input. A failure leaves it there, for a look.
 */
#include "model.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CACHES = 2, CALLS = 120 };

static image_cache_t *caches[CACHES];
static image_cache_options_t *options;
static uint64_t limit;
static char folder[200], directory[256];

/* ---- The folder -------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_all(void) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void make_folder(void)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/image-cache-fuzz-XXXXXX", parent);
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        exit(1);
    }
    snprintf(directory, sizeof directory, "%s/cache", folder);
    atexit(remove_all);
}

/* Each handle collects hits, and writes them when it is asked. */
void write_hits(void)
{
    for (unsigned i = 0; i < CACHES; i++) {
        image_cache_list_t *list;
        if (caches[i] == NULL)
            continue;
        OK(image_cache_list_cached(caches[i], &list, &last_error));
        image_cache_list_free(list);
    }
}

/* ---- One input --------------------------------------------------------------------------------------------------- */

static void open_cache(unsigned number) { OK(image_cache_open(directory, options, &caches[number], &last_error)); }

static void close_cache(unsigned number)
{
    image_cache_close(caches[number]);
    caches[number] = NULL;
}

static void reopen(unsigned number)
{
    trace("open %u\n", number);
    close_cache(number);
    open_cache(number);
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
    case 9: expect_size(); break;
    case 10: open_reader(cache); break;
    case 11: read_on(); break;
    case 12: close_reader(&readers[below(READERS)]); break;
    case 13: list_images(cache); break;
    case 14: queue_one(cache); break;
    case 15:
        if (next_byte() % 4 == 0)
            prefetch(cache);
        else
            next_byte() % 2 ? prune(cache, limit) : clean(cache);
        break;
    case 16: next_byte() % 4 == 0 ? delete_all(cache) : delete_one(cache); break;
    case 17: bad_id(cache); break;
    case 18: any_id(cache); break;
    case 19: next_byte() % 2 ? reopen(number) : compare(cache, directory); break;
    }
}

static void start(unsigned flags)
{
    remove_all();
    MUST(mkdir(folder, 0777) == 0);
    start_model();
    start_checks();
    limit = some_length();
    options = image_cache_options_new();
    OK(image_cache_options_set_driver(options, flags % 2 ? IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE : IMAGE_CACHE_DRIVER_SQLITE,
                                     &last_error));
    OK(image_cache_options_set_durability(options, IMAGE_CACHE_DURABILITY_NONE, &last_error));
    OK(image_cache_options_set_max_size(options, limit, &last_error));
    for (unsigned i = 0; i < CACHES; i++)
        reopen(i);
}

static void close_caches(void)
{
    for (unsigned i = 0; i < CACHES; i++)
        close_cache(i);
}

static void close_what_they_made(bool commit)
{
    for (int i = 0; i < STREAMS; i++)
        end_stream(&streams[i], commit);
    for (int i = 0; i < READERS; i++)
        close_reader(&readers[i]);
    for (unsigned i = 0; i < LISTS; i++)
        free_list(i);
}

/* Caches first, or what was made from them first, as the input says. */
static void end(unsigned flags)
{
    bool caches_last = (flags >> 1) % 2, commit = (flags >> 2) % 2;
    if (!caches_last)
        close_caches();
    close_what_they_made(commit);
    if (caches_last)
        close_caches();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    make_folder();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start_input(data, size);
    unsigned flags = next_byte();
    start(flags);
    for (int i = 0; i < CALLS && has_input(); i++)
        one_call();
    for (int i = 0; i < CACHES; i++)
        compare(caches[i], directory);
    end(flags);

    /* Whatever was closed in whatever order: opened anew, the cache is what it was. */
    open_cache(0);
    compare(caches[0], directory);
    close_cache(0);
    image_cache_options_free(options);
    return 0;
}
