/*
 * convert_once: a host that boots from raw disks converts each qcow2 image once.
 *
 *     convert_once CACHE_DIR ID QCOW2_FILE DISK [sqlite|xattr]
 *
 * It caches QCOW2_FILE under ID, if it is a qcow2 image that needs no other file. It converts it with qemu-img, caches the result as
 * ID.raw, and exports that to DISK, a new file for one guest. The next guest of any process gets its disk from the cache: on a
 * file system with reflinks in milliseconds, and without a copy.
 *
 * The conversion takes place in a file beside DISK, once for all that make disks in its directory. Keep it on the file system of the
 * cache: then the import shares its blocks, too.
 *
 * Build it with:  cc convert_once.c -limage_cache -o convert_once
 */
#define _POSIX_C_SOURCE 200809L

#include <image_cache.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static image_cache_error_t error; /* of the last call that failed */

static image_cache_status_t failed(const char *what, const char *path)
{
    error.status = IMAGE_CACHE_ERROR_SOURCE;
    snprintf(error.message, sizeof error.message, "cannot %s %s: %s", what, path, strerror(errno));
    return error.status;
}

static const char *how(int32_t done) { return done == IMAGE_CACHE_COPY_REFLINK ? "shared" : "copied"; }

/* Caches a file. Another process may be faster. */
static image_cache_status_t import(image_cache_t *cache, const char *id, const char *path)
{
    int32_t done = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed("open", path);
    image_cache_status_t status = image_cache_import(cache, id, fd, IMAGE_CACHE_COPY_ANY, NULL, 0, &done, &error);
    close(fd);
    if (status == IMAGE_CACHE_ERROR_ALREADY_CACHED)
        return IMAGE_CACHE_OK;
    if (status == IMAGE_CACHE_OK)
        printf("%s is cached; its blocks were %s\n", id, how(done));
    return status;
}

/* The reader keeps the image where it is while qemu-img reads it. */
static image_cache_status_t convert(image_cache_t *cache, const char *id, const char *to)
{
    image_cache_reader_t *reader = NULL;
    image_cache_status_t status = image_cache_open_for_read(cache, id, &reader, &error);
    if (status != IMAGE_CACHE_OK)
        return status;
    char from[PATH_MAX], target[PATH_MAX];
    snprintf(from, sizeof from, "%s", image_cache_reader_path(reader));
    snprintf(target, sizeof target, "%s", to);
    char *arguments[] = {"qemu-img", "convert", "-f", "qcow2", "-O", "raw", from, target, NULL};
    pid_t child;
    int ended = 0;
    errno = posix_spawnp(&child, arguments[0], NULL, NULL, arguments, environ);
    if (errno != 0)
        status = failed("start", arguments[0]);
    else if (waitpid(child, &ended, 0) != child || !WIFEXITED(ended) || WEXITSTATUS(ended) != 0) {
        errno = EIO;
        status = failed("convert", from);
    }
    image_cache_reader_close(reader);
    return status;
}

/* One process converts, the others wait for it. */
static int lock(const char *path)
{
    for (;;) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        struct stat locked, present;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || fcntl(fd, F_SETLKW, &whole) != 0 || fstat(fd, &locked) != 0)
            return -1;
        if (stat(path, &present) == 0 && present.st_ino == locked.st_ino)
            return fd;
        close(fd); /* the one who had it has removed it */
    }
}

/* Caches the image and its conversion, unless that was done. */
static image_cache_status_t convert_once(image_cache_t *cache, const char *id, const char *raw, const char *image,
                                         const char *disk)
{
    char converted[PATH_MAX], locked[PATH_MAX + 8];
    const char *name = strrchr(disk, '/');
    int directory = name == NULL ? 0 : (int)(name + 1 - disk);
    snprintf(converted, sizeof converted, "%.*s%s.converting", directory, disk, raw);
    snprintf(locked, sizeof locked, "%s.lock", converted);
    int fd = lock(locked);
    if (fd < 0)
        return failed("lock", locked);
    bool is_cached = false;
    image_cache_status_t status = image_cache_is_cached(cache, raw, &is_cached, &error);
    if (status == IMAGE_CACHE_OK && !is_cached) {
        status = import(cache, id, image);
        if (status == IMAGE_CACHE_OK)
            status = convert(cache, id, converted);
        if (status == IMAGE_CACHE_OK)
            status = import(cache, raw, converted);
        unlink(converted);
    }
    unlink(locked);
    close(fd);
    return status;
}

/* A new disk for a guest, which may write to it. */
static image_cache_status_t export(image_cache_t *cache, const char *raw, const char *disk)
{
    int32_t done = 0;
    int fd = open(disk, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed("create", disk);
    image_cache_status_t status = image_cache_export(cache, raw, fd, IMAGE_CACHE_COPY_ANY, NULL, 0, &done, &error);
    if (close(fd) != 0 && status == IMAGE_CACHE_OK)
        status = failed("close", disk);
    if (status != IMAGE_CACHE_OK)
        unlink(disk);
    else
        printf("%s has the blocks of %s: %s\n", disk, raw, how(done));
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: %s CACHE_DIR ID QCOW2_FILE DISK [sqlite|xattr]\n", argv[0]);
        return 2;
    }
    const char *id = argv[2], *disk = argv[4];
    char raw[256];
    snprintf(raw, sizeof raw, "%s.raw", id);

    image_cache_options_t *options = image_cache_options_new();
    image_cache_t *cache = NULL;
    bool is_cached = false;
    image_cache_status_t status = image_cache_options_set_formats(options, "qcow2,raw", &error);
    if (status == IMAGE_CACHE_OK && argc == 6 && strcmp(argv[5], "xattr") == 0)
        status = image_cache_options_set_driver(options, IMAGE_CACHE_DRIVER_XATTR, &error);
    if (status == IMAGE_CACHE_OK)
        status = image_cache_open(argv[1], options, &cache, &error);
    image_cache_options_free(options);

    if (status == IMAGE_CACHE_OK)
        status = image_cache_is_cached(cache, raw, &is_cached, &error);
    if (status == IMAGE_CACHE_OK && !is_cached)
        status = convert_once(cache, id, raw, argv[3], disk);
    if (status == IMAGE_CACHE_OK)
        status = export(cache, raw, disk);
    image_cache_close(cache);
    if (status != IMAGE_CACHE_OK)
        fprintf(stderr, "%s: %s\n", image_cache_status_name(status), error.message);
    return status == IMAGE_CACHE_OK ? 0 : 1;
}
