/*
 * The operations whose instructions are counted: `instructions DRIVER OPERATION TIMES` runs under callgrind, which
 * counts only within measured(). OPERATION is
 *
 *   hit      open, read 4 KiB, close; 16 images in turn
 *   commit   begin, write 1 KiB, commit
 *   close    one close of the cache after TIMES hits, including the flush of their accesses
 *
 * The library does some tasks after a time. A slow run would count more of them, so this program has a clock of its
 * own.
 */
#include <image_cache.h>

#include <sys/syscall.h>
#include <time.h>

#include "../c/check.h"

enum { IMAGES = 16, READ = 4096, WRITTEN = 1024 };

static image_cache_t *cache;
static char bytes[READ];

/* Replaces libc's function, for the library as well. Each clock begins at the real time and advances 1 us per call. */
int clock_gettime(clockid_t clock, struct timespec *result)
{
    enum { CLOCKS = 12, SECOND = 1000000000, STEP = 1000 };
    static __thread struct timespec now[CLOCKS];
    if (clock < 0 || clock >= CLOCKS)
        return (int)syscall(SYS_clock_gettime, clock, result);
    if (now[clock].tv_sec == 0 && now[clock].tv_nsec == 0 && syscall(SYS_clock_gettime, clock, &now[clock]) != 0)
        return -1;
    now[clock].tv_nsec += STEP;
    if (now[clock].tv_nsec >= SECOND) {
        now[clock].tv_nsec -= SECOND;
        now[clock].tv_sec++;
    }
    *result = now[clock];
    return 0;
}

static void commit_bytes(int number, size_t length)
{
    image_cache_writer_t *writer = NULL;
    char id[32];
    snprintf(id, sizeof id, "image-%06d", number);
    OK(image_cache_begin_write(cache, id, &writer, &check_error));
    OK(image_cache_write_chunk(writer, bytes, length, &check_error));
    OK(image_cache_commit(writer, &check_error));
}

static void hit(int number)
{
    image_cache_reader_t *reader = NULL;
    char id[32], buffer[READ];
    size_t length = 0;
    snprintf(id, sizeof id, "image-%06d", number % IMAGES);
    OK(image_cache_open_for_read(cache, id, &reader, &check_error));
    OK(image_cache_read(reader, buffer, sizeof buffer, &length, &check_error));
    CHECK(length == READ);
    image_cache_reader_close(reader);
}

static void commit(int number) { commit_bytes(IMAGES + number, WRITTEN); }

static void close_cache(int number)
{
    (void)number;
    image_cache_close(cache);
    cache = NULL;
}

/* callgrind finds it by name, so it is not inlined or renamed. */
void measured(void (*operation)(int), int times);
__attribute__((noinline)) void measured(void (*operation)(int), int times)
{
    for (int number = 0; number < times; number++)
        operation(number);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    CHECK(argc == 4);
    int times = atoi(argv[3]);
    memset(bytes, 'x', sizeof bytes);
    /* Creates the images and prepares the statements, because each first call costs more than later ones. */
    cache = open_cache("cache");
    for (int number = 0; number < IMAGES; number++)
        commit_bytes(number, READ);
    for (int number = 0; number < IMAGES; number++)
        hit(number);
    if (strcmp(argv[2], "hit") == 0) {
        measured(hit, times);
    } else if (strcmp(argv[2], "commit") == 0) {
        measured(commit, times);
    } else {
        for (int number = 0; number < times; number++)
            hit(number);
        measured(close_cache, 1);
    }
    image_cache_close(cache);
    return 0;
}
