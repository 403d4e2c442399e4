/*
 * Unusable directories, and names of images that are not regular files. Each gives a status. Nothing outside of the
 * directory changes, and nothing hangs.
 */
#include <image_cache.h>

#include "check.h"

#include <sys/wait.h>

static image_cache_status_t open_status(const char *directory, image_cache_error_t *error)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = (void *)&cache;
    image_cache_status_t status = image_cache_open(directory, options, &cache, error);
    CHECK((cache != NULL) == (status == IMAGE_CACHE_OK));
    image_cache_close(cache);
    image_cache_options_free(options);
    return status;
}

#define OPEN(expected, directory) STATUS(expected, open_status(directory, &check_error))

static void directories_that_cannot_be_opened(void)
{
    make_file(in_directory("file"), "not a directory");
    OPEN(IMAGE_CACHE_ERROR_IO, in_directory("file"));
    CHECK(check_error.os_error == ENOTDIR || check_error.os_error == EEXIST);
    CHECK(strstr(check_error.message, "file") != NULL); /* the message names the path */
    OPEN(IMAGE_CACHE_ERROR_IO, in_directory("file/below"));
    OPEN(IMAGE_CACHE_ERROR_IO, in_directory("no parent/cache"));
    CHECK(check_error.os_error == ENOENT && !exists(in_directory("no parent")));
    CHECK(open_status("", &check_error) < 0);

    char longest[PATH_MAX + 10];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    OPEN(IMAGE_CACHE_ERROR_IO, longest);

    OPEN(IMAGE_CACHE_OK, in_directory("bytes \xff\xfe")); /* a path is bytes, not text */
    CHECK(exists(in_directory("bytes \xff\xfe/incomplete")));
    OPEN(IMAGE_CACHE_OK, in_directory("bytes \xff\xfe")); /* and again, now that it exists */
}

/* Root may write whatever the mode is, so this runs as an ordinary user. */
static void a_directory_without_rights(void)
{
    CHECK(mkdir(in_directory("unwritable"), 0555) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(0);
        image_cache_error_t error;
        image_cache_status_t status = open_status(in_directory("unwritable"), &error);
        _exit(status == IMAGE_CACHE_ERROR_IO && (error.os_error == EACCES || error.os_error == EPERM) ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* A subdirectory of the cache is a symbolic link out of it, or a file. */
static void subdirectories_that_are_links_or_files(void)
{
    static const char *const names[] = {"incomplete", "invalid", "queue"};
    CHECK(mkdir(in_directory("outside"), 0755) == 0);
    make_file(in_directory("outside/precious"), "precious");
    for (size_t i = 0; i < 3; i++) {
        CHECK(mkdir(in_directory("linked-%zu", i), 0755) == 0);
        CHECK(symlink(in_directory("outside"), in_directory("linked-%zu/%s", i, names[i])) == 0);
        OPEN(IMAGE_CACHE_ERROR_IO, in_directory("linked-%zu", i));
        CHECK(mkdir(in_directory("filed-%zu", i), 0755) == 0);
        make_file(in_directory("filed-%zu/%s", i, names[i]), "a file");
        OPEN(IMAGE_CACHE_ERROR_IO, in_directory("filed-%zu", i));
    }
    CHECK(exists(in_directory("outside/precious")));

    /* The links replace the subdirectories while the cache is open. */
    image_cache_t *cache = open_cache("swapped");
    cache_image(cache, "kept", "kept");
    for (size_t i = 0; i < 3; i++) {
        CHECK(rmdir(in_directory("swapped/%s", names[i])) == 0);
        CHECK(symlink(in_directory("outside"), in_directory("swapped/%s", names[i])) == 0);
    }
    image_cache_writer_t *writer = NULL;
    image_cache_status_t status = image_cache_begin_write(cache, "new", &writer, &check_error);
    if (status == IMAGE_CACHE_OK)
        image_cache_abort(writer, "tested");
    uint64_t removed = 0;
    bool queued = false;
    (void)image_cache_queue_image(cache, "new", &queued, &check_error);
    (void)image_cache_clean(cache, 0, &removed, &check_error);
    (void)image_cache_delete_all_queued_images(cache, &removed, &check_error);
    CHECK(exists(in_directory("outside/precious")) && !exists(in_directory("outside/new")));
    check_image(cache, "kept", "kept");
    image_cache_close(cache);
}

/* An image's name belongs to a file that is not a regular one. */
static void names_that_are_no_images(void)
{
    image_cache_t *cache = open_cache("odd");
    cache_image(cache, "image", "image");
    make_file(in_directory("precious"), "precious");
    CHECK(mkdir(in_directory("odd/directory"), 0755) == 0);
    CHECK(mkfifo(in_directory("odd/fifo"), 0644) == 0);
    CHECK(symlink(in_directory("precious"), in_directory("odd/link")) == 0);
    CHECK(symlink("/nowhere/at/all", in_directory("odd/dangling")) == 0);

    static const char *const names[] = {"directory", "fifo", "link", "dangling"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        image_cache_reader_t *reader = NULL;
        image_cache_writer_t *writer = NULL;
        CHECK(!is_cached(cache, names[i]));
        CHECK(image_cache_open_for_read(cache, names[i], &reader, &check_error) < 0 && reader == NULL);
        CHECK(hits_of(cache, names[i]) == 0);
        if (image_cache_begin_write(cache, names[i], &writer, &check_error) == IMAGE_CACHE_OK) {
            (void)image_cache_write_chunk(writer, "new", 3, &check_error);
            if (image_cache_commit(writer, &check_error) == IMAGE_CACHE_OK)
                check_image(cache, names[i], "new"); /* replacing it is correct, if the image is cached then */
        }
    }
    uint64_t images = 0, bytes = 0, size = 0;
    OK(image_cache_prune(cache, &images, &bytes, &check_error));
    OK(image_cache_get_cache_size(cache, &size, &check_error));
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry = NULL;
    uint64_t sum = 0;
    OK(image_cache_list_cached(cache, &list, &check_error));
    while (image_cache_list_next(list, &entry))
        sum += entry->size;
    CHECK(sum == size); /* only images count */
    image_cache_list_free(list);
    OK(image_cache_delete_all_cached_images(cache, &images, &check_error));
    CHECK(!is_cached(cache, "image"));
    image_cache_close(cache);

    cache = open_cache("odd"); /* the cache still opens */
    image_cache_close(cache);
    FILE *file = fopen(in_directory("precious"), "r");
    char text[16] = "";
    CHECK(file != NULL && fgets(text, sizeof text, file) != NULL && strcmp(text, "precious") == 0);
    fclose(file);
}

/* Another program's directory is refused: prune would delete its files as images. */
static void a_directory_of_other_files(void)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = (void *)1;
    CHECK(mkdir(in_directory("home"), 0755) == 0);
    make_file(in_directory("home/thesis"), "years of work");
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_open(in_directory("home"), options, &cache, &check_error));
    CHECK(cache == NULL && strstr(check_error.message, "thesis") != NULL);
    CHECK(!exists(in_directory("home/incomplete")) && !exists(in_directory("home/cache.db")));

    /* Hidden files, and what mkfs creates, are not images. One of a cache's subdirectories marks no cache, all do. */
    CHECK(rename(in_directory("home/thesis"), in_directory("home/.thesis")) == 0);
    CHECK(mkdir(in_directory("home/lost+found"), 0755) == 0);
    OK(image_cache_open(in_directory("home"), options, &cache, &check_error));
    image_cache_close(cache);
    CHECK(mkdir(in_directory("glance"), 0755) == 0 && mkdir(in_directory("glance/queue"), 0755) == 0);
    make_file(in_directory("glance/image"), "image");
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_open(in_directory("glance"), options, &cache, &check_error));
    CHECK(mkdir(in_directory("glance/incomplete"), 0755) == 0 && mkdir(in_directory("glance/invalid"), 0755) == 0);
    OK(image_cache_open(in_directory("glance"), options, &cache, &check_error));
    CHECK(is_cached(cache, "image"));
    image_cache_close(cache);
    image_cache_options_free(options);
}

/* Every file has mode 0666 & ~umask, so a group can share a cache. The index is readable for those only who may write it. */
static void files_have_the_mode_of_the_umask(void)
{
    static const char *const files[] = {"image", "cache.db", "cache.db-journal", "queue/later", "incomplete/begun"};
    static const mode_t masks[] = {0, 002, 077};
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        mode_t before = umask(masks[m]);
        char name[16];
        snprintf(name, sizeof name, "mask-%o", (unsigned)masks[m]);
        image_cache_t *cache = open_cache(name);
        image_cache_writer_t *writer = NULL;
        bool queued = false;
        cache_image(cache, "image", "image");
        OK(image_cache_queue_image(cache, "later", &queued, &check_error));
        OK(image_cache_begin_write(cache, "begun", &writer, &check_error));
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            struct stat s;
            bool is_index = strncmp(files[i], "cache.db", 8) == 0;
            if (check_driver != IMAGE_CACHE_DRIVER_SQLITE && is_index)
                continue;
            CHECK(stat(in_directory("%s/%s", name, files[i]), &s) == 0);
            if (is_index)
                CHECK((s.st_mode & 0777) == (mode_t)(masks[m] & 020 ? 0600 : 0660));
            else
                CHECK((s.st_mode & 0777) == (0666 & ~masks[m]));
        }
        image_cache_abort(writer, NULL);
        image_cache_close(cache);
        umask(before);
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    alarm(120); /* open(2) of a fifo without O_NONBLOCK waits forever */
    directories_that_cannot_be_opened();
    a_directory_without_rights();
    subdirectories_that_are_links_or_files();
    names_that_are_no_images();
    a_directory_of_other_files();
    files_have_the_mode_of_the_umask();
    return 0;
}
