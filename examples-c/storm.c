/*
 * storm: many processes want one cold image at the same time, and those that fetch it are killed.
 *
 *     storm [CACHE_DIR] [--readers N] [--deaths N] [--size MIB] [--rate MIB_PER_S] [--driver sqlite|xattr]
 *
 * It starts a slow web server on the loopback device, and readers, each a process with a stream. While they read, it
 * kills the reader that is fetching, `--deaths` times. Then it prints what the server has sent, when the readers had
 * their first and last bytes, and whether all bytes are right. Without CACHE_DIR, the cache is in a temporary directory
 * in $TMPDIR.
 *
 * The exit code is 1 if a byte or the digest is wrong, if a survivor lacks the whole image, or if the server has sent
 * more than 1 MiB again for each death.
 *
 * Build it with:  cc storm.c http_source.c slow_server.c -limage_cache -lcurl -lpthread -o storm
 *
 * What is worth copying: a process opens the cache after the fork, since a child cannot use its parent's handles.
 */
#define _XOPEN_SOURCE 700 /* POSIX of 2008, with its nftw */
#define _DEFAULT_SOURCE   /* MAP_ANONYMOUS */

#include "http_source.h"
#include "slow_server.h"

#include <image_cache.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 256 << 10, MIB = 1 << 20, MOST = 1000 /* readers */, PATIENCE = 300 /* seconds */ };
static const char id[] = "cold";
static const double latency = 0.005; /* seconds before each response */

/* The command line, and what follows from it. */
typedef struct {
    const char *directory;
    uint64_t readers, deaths, size, rate; /* size in bytes, rate in bytes per second */
    int32_t driver;
    char url[64], sha256[65];
} storm_t;

/* What a reader reports. Times are in seconds, since the start. */
typedef struct {
    pid_t pid;
    bool is_killed, is_whole;
    double first, last;
    uint64_t fetched;
    image_cache_error_t error;
} reader_t;

/* In memory that all processes share. */
typedef struct {
    slow_counts_t counts;
    double start;
    int fetching; /* the index of the reader that runs its source, plus 1; or 0 */
    reader_t readers[MOST];
} shared_t;

static shared_t *shared;
static const char *image; /* the right bytes, shared, too */

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double mib(uint64_t bytes) { return (double)bytes / MIB; }

static void sleep_ms(long milliseconds) { nanosleep(&(struct timespec){0, milliseconds * 1000000}, NULL); }

static void die(const char *what)
{
    fprintf(stderr, "storm: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

/* The SHA-256 of a file from its start, by coreutils. The child runs nothing but sha256sum. */
static bool compute_sha256(int file, char hex[65])
{
    int ends[2], status = 1;
    if (lseek(file, 0, SEEK_SET) != 0 || pipe(ends) != 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        dup2(file, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        execlp("sha256sum", "sha256sum", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], hex, 64);
    hex[64] = '\0';
    close(ends[0]);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 && got == 64;
}

/* Creates the image in an unnamed file, which all processes map, and computes its digest. */
static void create_image(storm_t *storm)
{
    FILE *file = tmpfile();
    uint64_t state = 88172645463325252; /* xorshift64 */
    if (file == NULL)
        die("no temporary file");
    for (uint64_t at = 0; at < storm->size; at += sizeof state) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        fwrite(&state, sizeof state, 1, file);
    }
    if (fflush(file) != 0)
        die("the temporary file");
    image = mmap(NULL, storm->size, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (image == MAP_FAILED || !compute_sha256(fileno(file), storm->sha256))
        die("the image's digest");
    fclose(file);
}

/* ---- A reader ---------------------------------------------------------------------------------------------------- */

typedef struct {
    http_source_t *http;
    reader_t *reader;
} source_t;

static int64_t read_server(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    source_t *source = user_data;
    int self = (int)(source->reader - shared->readers) + 1;
    __atomic_store_n(&shared->fetching, self, __ATOMIC_SEQ_CST);
    int64_t got = http_read_at(source->http, offset, buffer, capacity);
    __atomic_compare_exchange_n(&shared->fetching, &self, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    source->reader->fetched += got > 0 ? (uint64_t)got : 0;
    return got;
}

static image_cache_status_t open_cache(const storm_t *storm, image_cache_t **cache, image_cache_error_t *error)
{
    image_cache_options_t *options = image_cache_options_new();
    image_cache_status_t status = image_cache_options_set_driver(options, storm->driver, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open(storm->directory, options, cache, error);
    image_cache_options_free(options);
    return status;
}

/* Reads to the end, and compares each byte. */
static image_cache_status_t read_all(image_cache_stream_t *stream, const storm_t *storm, reader_t *reader)
{
    static char piece[PIECE];
    uint64_t done = 0;
    image_cache_status_t status = IMAGE_CACHE_OK;
    bool is_right = true;
    for (size_t length = 1; status == IMAGE_CACHE_OK && length > 0 && is_right; done += length) {
        status = image_cache_stream_read(stream, piece, sizeof piece, &length, &reader->error);
        is_right = length <= storm->size - done && memcmp(piece, image + done, length) == 0;
        if (done == 0)
            reader->first = seconds() - shared->start;
    }
    reader->last = seconds() - shared->start;
    reader->is_whole = status == IMAGE_CACHE_OK && is_right && done == storm->size;
    if (status == IMAGE_CACHE_OK && !reader->is_whole)
        snprintf(reader->error.message, sizeof reader->error.message, "wrong bytes within %" PRIu64, done);
    return status;
}

/* Signals that it is ready, and waits until the others are. Both pipes were created before the fork. */
static void wait_for_start(int ready, int start)
{
    char byte = 0;
    if (write(ready, &byte, 1) != 1 || read(start, &byte, 1) < 0)
        _exit(1);
}

static void run_reader(const storm_t *storm, reader_t *reader, int ready, int start)
{
    image_cache_t *cache = NULL;
    image_cache_stream_t *stream = NULL;
    source_t source = {.http = http_open(storm->url), .reader = reader};
    image_cache_error_t *error = &reader->error;
    image_cache_status_t status = open_cache(storm, &cache, error);
    wait_for_start(ready, start);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_open(cache, id, read_server, &source, &stream, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_expect_size(stream, storm->size, error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_stream_expect_digest(stream, "sha256", storm->sha256, error);
    if (status == IMAGE_CACHE_OK)
        read_all(stream, storm, reader);
    image_cache_stream_close(stream);
    image_cache_close(cache);
    http_close(source.http);
}

/* ---- The storm --------------------------------------------------------------------------------------------------- */

static pid_t start_server(storm_t *storm)
{
    uint16_t port = 0;
    int listener = slow_server_listen(&port);
    if (listener < 0)
        die("no socket on the loopback device");
    snprintf(storm->url, sizeof storm->url, "http://127.0.0.1:%u/image", port);
    pid_t pid = fork();
    if (pid == 0) {
        slow_server_t server = {image, storm->size, (double)storm->rate, latency, &shared->counts};
        slow_server_run(&server, listener);
    }
    close(listener);
    return pid;
}

/* Starts the readers, and lets all of them begin at once. */
static void start_readers(const storm_t *storm)
{
    int ready[2], start[2];
    char byte;
    if (pipe(ready) != 0 || pipe(start) != 0)
        die("no pipe");
    for (uint64_t i = 0; i < storm->readers; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("a reader cannot be started");
        if (pid == 0) {
            close(start[1]);
            run_reader(storm, &shared->readers[i], ready[1], start[0]);
            _exit(0);
        }
        shared->readers[i].pid = pid;
    }
    close(ready[1]);
    for (uint64_t i = 0; i < storm->readers && read(ready[0], &byte, 1) == 1; i++)
        ;
    shared->start = seconds();
    close(start[1]); /* all reads of it return */
    close(start[0]);
    close(ready[0]);
}

/* Collects a reader that has ended. */
static bool collect(const storm_t *storm)
{
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    for (uint64_t i = 0; pid > 0 && i < storm->readers; i++)
        if (shared->readers[i].pid == pid) {
            shared->readers[i].is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            return true;
        }
    return false;
}

/* Kills the reader that is fetching. */
static bool kill_fetching(void)
{
    int fetching = __atomic_load_n(&shared->fetching, __ATOMIC_SEQ_CST);
    if (fetching == 0 || kill(shared->readers[fetching - 1].pid, SIGKILL) != 0)
        return false;
    uint64_t sent = __atomic_load_n(&shared->counts.sent, __ATOMIC_RELAXED);
    __atomic_store_n(&shared->fetching, 0, __ATOMIC_SEQ_CST);
    printf("  killed      reader %d while it fetched, after %.1f MiB and %.2f s\n", fetching, mib(sent),
           seconds() - shared->start);
    fflush(stdout);
    return true;
}

/* Waits for the readers. The deaths are spread over the image. */
static void run_storm(const storm_t *storm)
{
    uint64_t ended = 0, deaths = 0;
    while (ended < storm->readers && seconds() < shared->start + PATIENCE) {
        uint64_t sent = __atomic_load_n(&shared->counts.sent, __ATOMIC_RELAXED);
        if (deaths < storm->deaths && sent >= storm->size / (storm->deaths + 1) * (deaths + 1))
            deaths += kill_fetching();
        if (collect(storm))
            ended++;
        else
            sleep_ms(1);
    }
    for (uint64_t i = 0; ended < storm->readers && i < storm->readers; i++)
        kill(shared->readers[i].pid, SIGKILL);
}

/* ---- The report -------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

/* Prints the median and the maximum of a time of all survivors. */
static void print_times(const storm_t *storm, const char *what, bool is_first)
{
    static double times[MOST];
    size_t count = 0;
    for (uint64_t i = 0; i < storm->readers; i++)
        if (!shared->readers[i].is_killed)
            times[count++] = is_first ? shared->readers[i].first : shared->readers[i].last;
    qsort(times, count, sizeof *times, compare_doubles);
    if (count > 0)
        printf("  %-10s  p50 %.2f s, max %.2f s\n", what, times[count / 2], times[count - 1]);
}

static bool print_traffic(const storm_t *storm, uint64_t killed)
{
    const slow_counts_t *counts = &shared->counts;
    uint64_t fetchers = 0, limit = killed * MIB, again = counts->sent > storm->size ? counts->sent - storm->size : 0;
    for (uint64_t i = 0; i < storm->readers; i++)
        fetchers += shared->readers[i].fetched > 0;
    printf("  requests    %" PRIu64 ", by %" PRIu64 " of the readers, one at a time\n", counts->requests, fetchers);
    printf("  sent        %.2f MiB: the image once", mib(counts->sent));
    if (again > 0)
        printf(", and %.2f MiB again (at most 1 MiB per death)%s", mib(again), again > limit ? ": TOO MUCH" : "");
    putchar('\n');
    return again <= limit && counts->sent >= storm->size;
}

/* What the server would need for one reader, and for a download by each. */
static void print_comparison(const storm_t *storm)
{
    double transfer = (double)storm->size / (double)storm->rate;
    double alone = transfer + latency * (double)(storm->size / PIECE);
    printf("  compare     one reader alone: at least %.1f s; a download by each: %.0f MiB, at least %.0f s\n", alone,
           mib(storm->size * storm->readers), transfer * (double)storm->readers);
}

static bool print_survivors(const storm_t *storm, uint64_t killed)
{
    uint64_t whole = 0;
    for (uint64_t i = 0; i < storm->readers; i++)
        whole += shared->readers[i].is_whole && !shared->readers[i].is_killed;
    printf("  survivors   %" PRIu64 " of %" PRIu64 " have the whole image, and each byte is right\n", whole,
           storm->readers - killed);
    for (uint64_t i = 0; i < storm->readers; i++)
        if (!shared->readers[i].is_whole && !shared->readers[i].is_killed)
            printf("              reader %" PRIu64 ": %s\n", i + 1, shared->readers[i].error.message);
    return whole == storm->readers - killed && whole > 0;
}

static bool print_cached(const storm_t *storm)
{
    char path[4096], hex[65] = "";
    snprintf(path, sizeof path, "%s/%s", storm->directory, id);
    int file = open(path, O_RDONLY);
    bool is_right = file >= 0 && compute_sha256(file, hex) && strcmp(hex, storm->sha256) == 0;
    const char *wrong = file >= 0 ? "with a WRONG SHA-256" : "NO";
    printf("  cached      %s\n", is_right ? "once, and its SHA-256 is right" : wrong);
    if (file >= 0)
        close(file);
    return is_right;
}

static bool print_report(const storm_t *storm)
{
    uint64_t killed = 0;
    for (uint64_t i = 0; i < storm->readers; i++)
        killed += shared->readers[i].is_killed;
    if (killed > 0)
        putchar('\n');
    bool is_right = print_traffic(storm, killed);
    print_times(storm, "first byte", true);
    print_times(storm, "last byte", false);
    print_comparison(storm);
    is_right &= print_survivors(storm, killed);
    is_right &= print_cached(storm);
    if (killed != storm->deaths)
        printf("  %" PRIu64 " readers were killed, not %" PRIu64 "\n", killed, storm->deaths);
    printf("\n%s\n", is_right && killed == storm->deaths ? "All right." : "WRONG.");
    return is_right && killed == storm->deaths;
}

/* ---- The command line -------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    char *end;
    *number = text != NULL ? strtoull(text, &end, 10) : 0;
    return text != NULL && *end == '\0' && *number >= least && *number <= most;
}

static bool parse_driver(const char *text, int32_t *driver)
{
    bool is_xattr = text != NULL && strcmp(text, "xattr") == 0;
    *driver = is_xattr ? IMAGE_CACHE_DRIVER_XATTR : IMAGE_CACHE_DRIVER_SQLITE;
    return is_xattr || (text != NULL && strcmp(text, "sqlite") == 0);
}

static bool parse_option(const char *option, const char *value, storm_t *storm)
{
    return strcmp(option, "--readers") == 0  ? parse_number(value, 1, MOST, &storm->readers)
           : strcmp(option, "--deaths") == 0 ? parse_number(value, 0, MOST, &storm->deaths)
           : strcmp(option, "--size") == 0   ? parse_number(value, 1, 4096, &storm->size)
           : strcmp(option, "--rate") == 0   ? parse_number(value, 1, 4096, &storm->rate)
                                             : strcmp(option, "--driver") == 0 && parse_driver(value, &storm->driver);
}

static bool parse(int argc, char **argv, storm_t *storm)
{
    for (int i = 1; i < argc; i++) {
        bool is_option = argv[i][0] == '-';
        if (is_option ? !parse_option(argv[i], argv[i + 1], storm) : storm->directory != NULL)
            return false;
        if (is_option)
            i++;
        else
            storm->directory = argv[i];
    }
    return storm->deaths < storm->readers;
}

static void create_shared(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("no shared memory");
}

int main(int argc, char **argv)
{
    storm_t storm = {.readers = 100, .deaths = 3, .size = 32, .rate = 16};
    char temporary[4096];
    if (!parse(argc, argv, &storm)) {
        fprintf(stderr,
                "usage: %s [CACHE_DIR] [--readers N] [--deaths N] [--size MIB] [--rate MIB_PER_S]"
                " [--driver sqlite|xattr]\n",
                argv[0]);
        return 2;
    }
    storm.size *= MIB, storm.rate *= MIB;
    const char *parent = getenv("TMPDIR");
    snprintf(temporary, sizeof temporary, "%s/storm.XXXXXX", parent != NULL ? parent : "/tmp");
    bool is_temporary = storm.directory == NULL;
    if (is_temporary && (storm.directory = mkdtemp(temporary)) == NULL)
        die(temporary);
    setenv("no_proxy", "127.0.0.1", 1); /* libcurl would use the user's proxy for the loopback device, too */
    create_shared();
    create_image(&storm);
    printf("%" PRIu64 " processes want an image of %.0f MiB that is not cached. The server sends %.0f MiB/s.\n\n",
           storm.readers, mib(storm.size), mib(storm.rate));
    fflush(stdout);
    pid_t server = start_server(&storm);
    start_readers(&storm);
    run_storm(&storm);
    kill(server, SIGKILL);
    bool is_right = print_report(&storm);
    if (is_temporary)
        nftw(storm.directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return is_right ? 0 : 1;
}
