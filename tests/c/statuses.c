/*
 * Each function returns the statuses that the header names for it, and no other. Called as `statuses sqlite HEADER`; it takes
 * both drivers.
 *
 * Each call of the table below is made as it stands; in a forked child; and once for each system call that it makes, with that
 * one, or all from it on, failing: the functions open64, read, ... of this program stand before those of libc. What came back
 * is compared, both ways, with the list after "Returns ..." in the documentation of the function.
 */
#include <image_cache.h>

#include "check.h"

#include <dlfcn.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* ---- System calls that fail -------------------------------------------------------------------------------------- */

static int fault_at, fault_count, fault_error; /* the how-manyth call fails, and with what; 0: none */
static bool fault_stays;

/* ENOSPC comes from calls that need space, others from any. */
static bool fails(bool needs_space)
{
    if (fault_at == 0 || (fault_error == ENOSPC && !needs_space))
        return false;
    fault_count++;
    if (fault_count != fault_at && !(fault_stays && fault_count > fault_at))
        return false;
    errno = fault_error;
    return true;
}

#define FAULTY(type, name, parameters, arguments, needs_space, failure)                                                \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
        if (real == NULL)                                                                                              \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                 \
        return fails(needs_space) ? (failure) : real arguments;                                                        \
    }

FAULTY(int, openat64, (int at, const char *path, int flags, ...), (at, path, flags, 0666), flags &O_CREAT, -1)
FAULTY(int, open64, (const char *path, int flags, ...), (path, flags, 0644), flags &O_CREAT, -1)
FAULTY(int, fstat64, (int fd, struct stat64 *s), (fd, s), false, -1)
FAULTY(int, fstatat64, (int at, const char *path, struct stat64 *s, int flags), (at, path, s, flags), false, -1)
FAULTY(int, statx, (int at, const char *path, int flags, unsigned mask, struct statx *s), (at, path, flags, mask, s), false,
       -1)
FAULTY(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), true, -1)
FAULTY(int, renameat, (int at, const char *path, int to, const char *name), (at, path, to, name), true, -1)
FAULTY(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), false, -1)
FAULTY(int, ftruncate64, (int fd, off64_t length), (fd, length), true, -1)

FAULTY(int, futimens, (int fd, const struct timespec times[2]), (fd, times), false, -1)
FAULTY(int, fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags),
       (fd, name, value, size, flags), true, -1)
FAULTY(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t size), (fd, name, value, size), false, -1)
FAULTY(ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size), false, -1)
FAULTY(ssize_t, write, (int fd, const void *buffer, size_t size), (fd, buffer, size), true, -1)
FAULTY(ssize_t, pread64, (int fd, void *buffer, size_t size, off64_t at), (fd, buffer, size, at), false, -1)
FAULTY(ssize_t, pwrite64, (int fd, const void *buffer, size_t size, off64_t at), (fd, buffer, size, at), true, -1)
FAULTY(struct dirent64 *, readdir64, (DIR *directory), (directory), false, NULL)

int fsync(int fd) /* which does not wait for the disk, thousands of times */
{
    (void)fd;
    return fails(true) ? -1 : 0;
}

int flock(int fd, int how) /* which never fails to unlock */
{
    static int (*real)(int, int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "flock");
    return how != LOCK_UN && fails(false) ? -1 : real(fd, how);
}

/* ---- What the calls are made with -------------------------------------------------------------------------------- */

#define EMPTY_MD5 "d41d8cd98f00b204e9800998ecf8427e"

static image_cache_options_t *options;
static image_cache_t *cache, *new_cache;
static image_cache_writer_t *writer, *new_writer;
static image_cache_reader_t *reader, *new_reader;
static image_cache_tee_t *my_tee, *new_tee;
static image_cache_list_t *list;
static text_source_t source;
static image_cache_error_t error;
static unsigned folders; /* each call has a folder of its own */
static bool answer;
static uint64_t number, second_number;
static size_t length;
static char buffer[64];

static const char *inside(const char *name) { return in_folder("cache-%u%s", folders, name); }

static void set_up(void)
{
    folders++;
    options = new_options();
    source = (text_source_t){"the source's bytes", 0, 64, 0};
    OK(image_cache_options_set_max_size(options, 0, &check_error));
    OK(image_cache_open(inside(""), options, &cache, &check_error));
    cache_image(cache, "cached", "bytes");
    OK(image_cache_queue_image(cache, "queued", &answer, &check_error));
}

static void tear_down(void)
{
    image_cache_abort(writer, NULL), image_cache_abort(new_writer, NULL);
    image_cache_reader_close(reader), image_cache_reader_close(new_reader);
    image_cache_tee_close(my_tee), image_cache_tee_close(new_tee);
    image_cache_list_free(list);
    image_cache_close(cache), image_cache_close(new_cache);
    image_cache_options_free(options);
    writer = new_writer = NULL, reader = new_reader = NULL, my_tee = new_tee = NULL, list = NULL, cache = new_cache = NULL;
    check_remove(inside(""));
}

static void begin(void) { OK(image_cache_begin_write(cache, "written", &writer, &check_error)); }
static void chunk(void) { begin(); OK(image_cache_write_chunk(writer, "chunk", 5, &check_error)); }
static void expect_size(void) { begin(); OK(image_cache_writer_expect_size(writer, 7, &check_error)); }
static void expect_digest(void)
{
    begin();
    OK(image_cache_writer_expect_digest(writer, "md5", EMPTY_MD5, &check_error));
    OK(image_cache_write_chunk(writer, "not empty", 9, &check_error));
}
static void lose(void) { chunk(); CHECK(unlink(inside("/incomplete/written")) == 0); }
static void race(void) { chunk(); make_file(inside("/written"), "another program's"); }
static void leave_invalid(void) { chunk(); image_cache_abort(writer, "tested"); writer = NULL; }
static void open_reader(void) { OK(image_cache_open_for_read(cache, "cached", &reader, &check_error)); }
static void shorten(void) { open_reader(); CHECK(truncate(inside("/cached"), 1) == 0); }
static void open_tee(void) { OK(image_cache_tee_open(cache, "teed", read_text, &source, &my_tee, &check_error)); }
static void begin_tee(void)
{
    source.step = 3;
    open_tee(); OK(image_cache_tee_read(my_tee, buffer, sizeof buffer, &length, &check_error));
}
static void tee_size(void)
{
    open_tee(); OK(image_cache_tee_expect_size(my_tee, 1, &check_error));
}
static void tee_digest(void)
{
    open_tee(); OK(image_cache_tee_expect_digest(my_tee, "md5", EMPTY_MD5, &check_error));
}
static int64_t fail_to_read(void *user_data, void *data, size_t capacity)
{
    (void)user_data, (void)data, (void)capacity;
    return -1;
}
static void bad_tee(void) { OK(image_cache_tee_open(cache, "teed", fail_to_read, NULL, &my_tee, &check_error)); }
static void newer_index(void)
{
    if (check_driver != IMAGE_CACHE_DRIVER_SQLITE)
        return;
    image_cache_close(cache), cache = NULL;
    int fd = open(inside("/cache.db"), O_RDWR);
    CHECK(fd >= 0 && lseek(fd, 60, SEEK_SET) == 60); /* SQLite's user_version */
    CHECK(write(fd, "\x7f\0\0\0", 4) == 4 && close(fd) == 0);
}
static void add_a_file(void) { make_file(inside("/added"), "another program's"); }
static void a_file(void) { make_file(inside("/file"), "no folder"); }
static void nothing(void) {}

static image_cache_status_t fetch(void *user_data, const char *id, image_cache_writer_t *lent)
{
    (void)user_data;
    return image_cache_write_chunk(lent, id, strlen(id), NULL);
}

static image_cache_status_t commit(image_cache_writer_t **ended)
{
    image_cache_status_t status = image_cache_commit(*ended, &error);
    *ended = NULL;
    return status;
}

static image_cache_status_t read_tee(image_cache_tee_t *read) /* to its end */
{
    image_cache_status_t status;
    do
        status = image_cache_tee_read(read, buffer, sizeof buffer, &length, &error);
    while (status == IMAGE_CACHE_OK && length > 0);
    return status;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

/* CALLS(function, before, call): `before` prepares what the call needs. */
#define CALLS(X)                                                                                                       \
    X(options_set_driver, nothing, image_cache_options_set_driver(options, IMAGE_CACHE_DRIVER_XATTR, &error))          \
    X(options_set_driver, nothing, image_cache_options_set_driver(options, 99, &error))                                \
    X(options_set_max_size, nothing, image_cache_options_set_max_size(options, 1, &error))                             \
    X(options_set_max_size, nothing, image_cache_options_set_max_size(NULL, 1, &error))                                \
    X(options_set_stall_time, nothing, image_cache_options_set_stall_time(options, 1, &error))                         \
    X(options_set_stall_time, nothing, image_cache_options_set_stall_time(NULL, 1, &error))                            \
    X(options_set_database, nothing, image_cache_options_set_database(options, "name", &error))                        \
    X(options_set_database, nothing, image_cache_options_set_database(options, "a/b", &error))                         \
    X(options_set_durability, nothing, image_cache_options_set_durability(options, 1, &error))                         \
    X(options_set_durability, nothing, image_cache_options_set_durability(options, 2, &error))                         \
    X(options_set_streaming, nothing, image_cache_options_set_streaming(options, true, &error))                        \
    X(options_set_streaming, nothing, image_cache_options_set_streaming(NULL, true, &error))                           \
    X(options_set_log, nothing, image_cache_options_set_log(options, NULL, NULL, &error))                              \
    X(options_set_log, nothing, image_cache_options_set_log(NULL, NULL, NULL, &error))                                 \
    X(open, nothing, image_cache_open(inside("/new"), options, &new_cache, &error))                                    \
    X(open, nothing, image_cache_open(inside(""), options, &new_cache, &error))                                        \
    X(open, newer_index, image_cache_open(inside(""), options, &new_cache, &error))                                    \
    X(open, a_file, image_cache_open(inside("/file"), options, &new_cache, &error))                                    \
    X(open, nothing, image_cache_open(NULL, options, &new_cache, &error))                                              \
    X(is_cached, nothing, image_cache_is_cached(cache, "cached", &answer, &error))                                     \
    X(is_cached, nothing, image_cache_is_cached(cache, "a/b", &answer, &error))                                        \
    X(is_cached, nothing, image_cache_is_cached(cache, NULL, &answer, &error))                                         \
    X(is_being_cached, chunk, image_cache_is_being_cached(cache, "written", &answer, &error))                          \
    X(is_being_cached, nothing, image_cache_is_being_cached(cache, "a/b", &answer, &error))                            \
    X(is_being_cached, nothing, image_cache_is_being_cached(cache, NULL, &answer, &error))                             \
    X(is_queued, nothing, image_cache_is_queued(cache, "queued", &answer, &error))                                     \
    X(is_queued, nothing, image_cache_is_queued(cache, "a/b", &answer, &error))                                        \
    X(is_queued, nothing, image_cache_is_queued(cache, NULL, &answer, &error))                                         \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, "new", &answer, &error))                                  \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, "a/b", &answer, &error))                                  \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, NULL, &answer, &error))                                   \
    X(get_cache_size, nothing, image_cache_get_cache_size(cache, &number, &error))                                     \
    X(get_cache_size, nothing, image_cache_get_cache_size(cache, NULL, &error))                                        \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "cached", &number, &error))                           \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "absent", &number, &error))                           \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "a/b", &number, &error))                              \
    X(get_image_size, nothing, image_cache_get_image_size(cache, NULL, &number, &error))                               \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, "cached", &number, &error))                             \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, "a/b", &number, &error))                                \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, NULL, &number, &error))                                 \
    X(list_cached, nothing, image_cache_list_cached(cache, &list, &error))                                             \
    X(list_cached, add_a_file, image_cache_list_cached(cache, &list, &error))                                          \
    X(list_cached, nothing, image_cache_list_cached(cache, NULL, &error))                                              \
    X(list_queued, nothing, image_cache_list_queued(cache, &list, &error))                                             \
    X(list_queued, nothing, image_cache_list_queued(cache, NULL, &error))                                              \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, "cached", &error))                          \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, "a/b", &error))                             \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, NULL, &error))                              \
    X(delete_all_cached_images, nothing, image_cache_delete_all_cached_images(cache, &number, &error))                 \
    X(delete_all_cached_images, nothing, image_cache_delete_all_cached_images(NULL, &number, &error))                  \
    X(prune, nothing, image_cache_prune(cache, &number, &second_number, &error))                                       \
    X(prune, nothing, image_cache_prune(NULL, &number, &second_number, &error))                                        \
    X(clean, leave_invalid, image_cache_clean(cache, 0, &number, &error))                                              \
    X(clean, chunk, image_cache_clean(cache, 0, &number, &error))                                                      \
    X(clean, nothing, image_cache_clean(NULL, 0, &number, &error))                                                     \
    X(queue_image, nothing, image_cache_queue_image(cache, "new", &answer, &error))                                    \
    X(queue_image, nothing, image_cache_queue_image(cache, "a/b", &answer, &error))                                    \
    X(queue_image, nothing, image_cache_queue_image(cache, NULL, &answer, &error))                                     \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, "queued", &error))                          \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, "a/b", &error))                             \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, NULL, &error))                              \
    X(delete_all_queued_images, nothing, image_cache_delete_all_queued_images(cache, &number, &error))                 \
    X(delete_all_queued_images, nothing, image_cache_delete_all_queued_images(NULL, &number, &error))                  \
    X(prefetch, nothing, image_cache_prefetch(cache, fetch, NULL, &number, &second_number, &error))                    \
    X(prefetch, nothing, image_cache_prefetch(cache, NULL, NULL, &number, &second_number, &error))                     \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "cached", &new_reader, &error))                         \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "absent", &new_reader, &error))                         \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "a/b", &new_reader, &error))                            \
    X(open_for_read, nothing, image_cache_open_for_read(cache, NULL, &new_reader, &error))                             \
    X(read, open_reader, image_cache_read(reader, buffer, sizeof buffer, &length, &error))                             \
    X(read, shorten, (image_cache_read(reader, buffer, 1, &length, &error),                                            \
                      image_cache_read(reader, buffer, sizeof buffer, &length, &error)))                               \
    X(read, nothing, image_cache_read(NULL, buffer, sizeof buffer, &length, &error))                                   \
    X(read_at, open_reader, image_cache_read_at(reader, 2, buffer, sizeof buffer, &length, &error))                    \
    X(read_at, shorten, image_cache_read_at(reader, 2, buffer, sizeof buffer, &length, &error))                        \
    X(read_at, open_reader, image_cache_read_at(reader, 2, NULL, sizeof buffer, &length, &error))                      \
    X(tee_open, nothing, image_cache_tee_open(cache, "teed", read_text, &source, &new_tee, &error))                    \
    X(tee_open, nothing, image_cache_tee_open(cache, "a/b", read_text, &source, &new_tee, &error))                     \
    X(tee_open, nothing, image_cache_tee_open(cache, "teed", NULL, &source, &new_tee, &error))                         \
    X(tee_expect_size, open_tee, image_cache_tee_expect_size(my_tee, 1, &error))                                       \
    X(tee_expect_size, begin_tee, image_cache_tee_expect_size(my_tee, 1, &error))                                      \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md5", EMPTY_MD5, &error))                    \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md4", EMPTY_MD5, &error))                    \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md5", "d41d", &error))                       \
    X(tee_read, open_tee, read_tee(my_tee))                                                                            \
    X(tee_read, bad_tee, read_tee(my_tee))                                                                             \
    X(tee_read, tee_size, read_tee(my_tee))                                                                            \
    X(tee_read, tee_digest, read_tee(my_tee))                                                                          \
    X(tee_read, nothing, read_tee(NULL))                                                                               \
    X(begin_write, nothing, image_cache_begin_write(cache, "new", &new_writer, &error))                                \
    X(begin_write, chunk, image_cache_begin_write(cache, "written", &new_writer, &error))                              \
    X(begin_write, nothing, image_cache_begin_write(cache, "cached", &new_writer, &error))                             \
    X(begin_write, nothing, image_cache_begin_write(cache, "a/b", &new_writer, &error))                                \
    X(begin_write, nothing, image_cache_begin_write(cache, NULL, &new_writer, &error))                                 \
    X(writer_expect_size, begin, image_cache_writer_expect_size(writer, 1, &error))                                    \
    X(writer_expect_size, chunk, image_cache_writer_expect_size(writer, 1, &error))                                    \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md5", EMPTY_MD5, &error))                 \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md4", EMPTY_MD5, &error))                 \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md5", "d41d", &error))                    \
    X(write_chunk, begin, image_cache_write_chunk(writer, "chunk", 5, &error))                                         \
    X(write_chunk, expect_size, image_cache_write_chunk(writer, "too long", 8, &error))                                \
    X(write_chunk, lose, image_cache_write_chunk(writer, "chunk", 5, &error))                                          \
    X(write_chunk, begin, image_cache_write_chunk(writer, NULL, 5, &error))                                            \
    X(commit, chunk, commit(&writer))                                                                                  \
    X(commit, expect_size, commit(&writer))                                                                            \
    X(commit, expect_digest, commit(&writer))                                                                          \
    X(commit, lose, commit(&writer))                                                                                   \
    X(commit, race, commit(&writer))                                                                                   \
    X(commit, nothing, commit(&writer))

static const struct {
    const char *function;
    void (*before)(void);
} calls[] = {
#define ROW(function, before, call) {"image_cache_" #function, before},
    CALLS(ROW)};
enum { CALL_COUNT = sizeof calls / sizeof *calls, STATUS_COUNT = 16 };

static image_cache_status_t make_call(size_t which)
{
    size_t at = 0;
#define MAKE(function, before, call)                                                                                   \
    if (at++ == which)                                                                                                 \
        return call;
    CALLS(MAKE)
    return 0;
}

/* What is documented, and cannot be provoked by a system call that fails while the call is made. */
static const struct {
    const char *function;
    image_cache_status_t status;
} unprovoked[] = {
    /* An index that fails before the first page is done without, and here there is no second page. */
    {"image_cache_prune", IMAGE_CACHE_ERROR_INDEX},
};

/* ---- What came back ---------------------------------------------------------------------------------------------- */

static bool seen[CALL_COUNT][STATUS_COUNT]; /* of a function, in the row of its first call */

static size_t first_call_of(const char *function)
{
    size_t at = 0;
    while (strcmp(calls[at].function, function) != 0)
        at++;
    return at;
}

static void note(size_t which, image_cache_status_t status)
{
    CHECK(status <= 0 && -status < STATUS_COUNT);
    CHECK(status == IMAGE_CACHE_OK || (error.status == status && error.message[0] != '\0'));
    seen[first_call_of(calls[which].function)][-status] = true;
}

static bool succeeded; /* the last call */

/* Makes the call with a fault, and returns whether the call came as far as that. */
static bool fault(size_t which, int at, int code, bool stays)
{
    set_up();
    calls[which].before();
    fault_count = 0, fault_error = code, fault_stays = stays, fault_at = at;
    image_cache_status_t status = make_call(which);
    fault_at = 0;
    bool reached = fault_count >= at;
    succeeded = status == IMAGE_CACHE_OK;
    note(which, status);
    tear_down();
    return reached;
}

static void in_child(size_t which)
{
    set_up();
    calls[which].before();
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(-make_call(which));
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) < STATUS_COUNT);
    seen[first_call_of(calls[which].function)][WEXITSTATUS(how)] = true;
    tear_down();
}

static void provoke(void)
{
    static const int codes[] = {EIO, ENOSPC, ENOTSUP};
    for (size_t which = 0; which < CALL_COUNT; which++) {
        in_child(which);
        (void)fault(which, 0, 0, false);
        if (!succeeded)
            continue;
        /* The first calls one by one, and then in larger steps: to open a cache takes hundreds. */
        for (size_t i = 0; i < 6; i++)
            for (int at = 1; fault(which, at, codes[i / 2], i % 2 != 0); at += 1 + at / 8)
                CHECK(at < 10000);
    }
}

/* ---- What the header says ---------------------------------------------------------------------------------------- */

/* The paragraph that begins with "Returns" in the documentation of a function. */
static const char *returns_of(const char *header, const char *function, const char **end)
{
    char declaration[80];
    snprintf(declaration, sizeof declaration, "\nimage_cache_status_t %s(", function);
    const char *at = strstr(header, declaration), *comment = header, *returns = header;
    CHECK(at != NULL);
    for (const char *next = header; (next = strstr(next, "\n/**\n")) != NULL && next < at; next++)
        comment = next;
    returns = strstr(comment, "\n * Returns ");
    CHECK(returns != NULL && returns < at);
    *end = strstr(returns, "\n *\n");
    CHECK(*end != NULL && *end < at);
    return returns;
}

/* IMAGE_CACHE_OK stands at the paragraph's beginning, each error at that of a line, with two spaces before and a reason
   after it; and all that another function returns when it begins with "Returns as image_cache_...()". */
static bool documented(const char *header, const char *function, size_t status)
{
    static const char as[] = "\n * Returns as ";
    const char *end = NULL, *text = returns_of(header, function, &end);
    char sought[80], other[80];
    snprintf(sought, sizeof sought, status == 0 ? "\n * Returns %s" : "\n *   %s  ", image_cache_status_name(-(int)status));
    const char *found = strstr(text, sought);
    if (found != NULL && found < end)
        return true;
    if (strncmp(text, as, strlen(as)) != 0)
        return false;
    text += strlen(as);
    snprintf(other, sizeof other, "%.*s", (int)strcspn(text, "("), text);
    return documented(header, other, status);
}

static int compare(const char *header)
{
    int wrong = 0;
    for (size_t which = 0; which < CALL_COUNT; which++) {
        if (first_call_of(calls[which].function) != which)
            continue;
        for (size_t status = 0; status < STATUS_COUNT; status++) {
            bool excused = false, said = documented(header, calls[which].function, status);
            for (size_t i = 0; i < sizeof unprovoked / sizeof *unprovoked; i++)
                excused |= strcmp(unprovoked[i].function, calls[which].function) == 0 && unprovoked[i].status == -(int)status;
            if (said != (seen[which][status] || excused) || (seen[which][status] && excused)) {
                wrong++;
                printf("%s: %s is %s\n", calls[which].function, image_cache_status_name(-(int)status),
                               !said     ? "returned, but not documented"
                       : excused ? "excused, but returned"
                                 : "documented, but never returned");
            }
        }
    }
    return wrong;
}

static bool has_attributes(void)
{
    image_cache_options_t *plain = new_options();
    image_cache_t *probe = NULL;
    image_cache_status_t status = image_cache_open(in_folder("probe-xattr"), plain, &probe, &check_error);
    image_cache_close(probe);
    image_cache_options_free(plain);
    return status != IMAGE_CACHE_ERROR_UNSUPPORTED;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    check_start(2, argv);
    static char header[200000];
    FILE *file = fopen(argv[2], "r");
    CHECK(file != NULL && fread(header, 1, sizeof header - 1, file) > 0 && fclose(file) == 0);

    provoke();
    check_driver = IMAGE_CACHE_DRIVER_XATTR;
    if (has_attributes())
        provoke();
    return compare(header) == 0 ? 0 : 1;
}
