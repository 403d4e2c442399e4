/*
 * A fuzzer of the C ABI. Its input is a list of calls, which open, use and close handles in any order on two handles of
 * one cache directory. A model in memory predicts each call's result; a difference aborts the process.
 *
 *     calls [libFuzzer's options] [CORPUS_DIRECTORY...]      see scripts/fuzz.sh; FUZZ_TRACE=1 prints the calls
 *
 * The same bytes are the same calls: nothing depends on time, on chance, or on earlier inputs. Each input gets a new
 * cache, with durability none, in $TMPDIR, /dev/shm or /tmp. A failure leaves the cache there.
 *
 * Each file knows those above it only:
 *
 *     input, checks, workspace                          bytes; statuses and errors; a temporary directory
 *     content, model, caches                            bytes of images; images; handles of the cache
 *     compare, streams, prefetch, readers, lists, ids   the calls, with the handles that they open
 *     fetches                                           streams, each from its open to its close
 *     bounds, housekeeping                              pins; the calls that remove images and unfinished files
 *     calls                                             the decoder: bytes to calls
 *     replay                                            a main function without libFuzzer
 */
#include "bounds.h"
#include "caches.h"
#include "checks.h"
#include "compare.h"
#include "fetches.h"
#include "housekeeping.h"
#include "ids.h"
#include "input.h"
#include "lists.h"
#include "model.h"
#include "prefetch.h"
#include "readers.h"
#include "streams.h"
#include "workspace.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CALLS = 120 };

/* The corpus depends on these numbers, and on the order in which a call reads its bytes. */
static void one_call(void)
{
    unsigned number = below(CACHES);
    image_cache_t *cache = caches[number];
    switch (below(20)) {
    case 0:
    case 1: begin_write(cache); break;
    case 2:
    case 3:
    case 4: write_or_read(); break;
    case 5:
    case 6: commit_stream(); break;
    case 7: abort_stream(); break;
    case 8: open_tee(cache); break;
    case 9: expect_size(); break;
    case 10: open_reader(cache); break;
    case 11: read_on(); break;
    case 12: close_reader(); break;
    case 13: list_images(cache); break;
    case 14: queue_one(cache); break;
    case 15:
        if (next_byte() % 4 == 0)
            prefetch(cache);
        else
            next_byte() % 2 ? prune(cache) : clean(cache);
        break;
    case 16: next_byte() % 4 == 0 ? delete_all(cache) : delete_one(cache); break;
    case 17: invalid_id(cache); break;
    case 18: any_id(cache); break;
    case 19:
        switch (next_byte() % 4) {
        case 0: compare(cache); break;
        case 2: fetch_stream(cache); break;
        case 3: keep_within_bounds(cache); break;
        default: open_cache(number); break;
        }
        break;
    }
}

static void start(unsigned flags)
{
    start_model();
    start_checks();
    start_caches(flags % 2 ? IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE : IMAGE_CACHE_DRIVER_SQLITE);
}

static void end_children(bool commit)
{
    end_streams(commit);
    close_readers();
    free_lists();
}

/* The input chooses the order: the caches first, or the handles that were opened from them. */
static void end(unsigned flags)
{
    bool caches_last = (flags >> 1) % 2, commit = (flags >> 2) % 2;
    if (!caches_last)
        close_caches();
    end_children(commit);
    if (caches_last)
        close_caches();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    create_workspace();
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
        compare(caches[i]);
    end(flags);

    /* The order of the closes changes no image: opened again, the cache equals the model. */
    open_cache(0);
    compare(caches[0]);
    close_cache(0);
    end_caches();
    return 0;
}
