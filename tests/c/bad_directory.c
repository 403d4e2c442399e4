/*
 * Folders that are not what they should be, and things under an image's name that are no image: a status each, nothing
 * outside the folder is touched, nothing hangs.
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
    make_file(in_folder("file"), "not a folder");
    OPEN(IMAGE_CACHE_ERROR_IO, in_folder("file"));
    CHECK(check_error.os_error == ENOTDIR || check_error.os_error == EEXIST);
    CHECK(strstr(check_error.message, "file") != NULL); /* the message names the path */
    OPEN(IMAGE_CACHE_ERROR_IO, in_folder("file/below"));
    OPEN(IMAGE_CACHE_ERROR_IO, in_folder("no parent/cache"));
    CHECK(check_error.os_error == ENOENT && !exists(in_folder("no parent")));
    CHECK(open_status("", &check_error) < 0);

    char longest[PATH_MAX + 10];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    OPEN(IMAGE_CACHE_ERROR_IO, longest);

    OPEN(IMAGE_CACHE_OK, in_folder("bytes \xff\xfe")); /* a path is bytes, not text */
    CHECK(exists(in_folder("bytes \xff\xfe/incomplete")));
    OPEN(IMAGE_CACHE_OK, in_folder("bytes \xff\xfe")); /* and once more, now that it is there */
}

/* For root nothing is unwritable by its mode, so this needs an ordinary user's rights. */
static void a_directory_without_rights(void)
{
    CHECK(mkdir(in_folder("unwritable"), 0555) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(0);
        image_cache_error_t error;
        image_cache_status_t status = open_status(in_folder("unwritable"), &error);
        _exit(status == IMAGE_CACHE_ERROR_IO && (error.os_error == EACCES || error.os_error == EPERM) ? 0 : 1);
    }
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child && how == 0);
}

/* Where a folder of the cache's own should be there is a symbolic link out of it, or a file. */
static void folders_that_are_links_or_files(void)
{
    static const char *const names[] = {"incomplete", "invalid", "queue"};
    CHECK(mkdir(in_folder("outside"), 0755) == 0);
    make_file(in_folder("outside/precious"), "precious");
    for (size_t i = 0; i < 3; i++) {
        CHECK(mkdir(in_folder("linked-%zu", i), 0755) == 0);
        CHECK(symlink(in_folder("outside"), in_folder("linked-%zu/%s", i, names[i])) == 0);
        OPEN(IMAGE_CACHE_ERROR_IO, in_folder("linked-%zu", i));
        CHECK(mkdir(in_folder("filed-%zu", i), 0755) == 0);
        make_file(in_folder("filed-%zu/%s", i, names[i]), "a file");
        OPEN(IMAGE_CACHE_ERROR_IO, in_folder("filed-%zu", i));
    }
    CHECK(exists(in_folder("outside/precious")));

    /* The link is put in place while the cache is open. */
    image_cache_t *cache = open_cache("swapped");
    cache_image(cache, "kept", "kept");
    for (size_t i = 0; i < 3; i++) {
        CHECK(rmdir(in_folder("swapped/%s", names[i])) == 0);
        CHECK(symlink(in_folder("outside"), in_folder("swapped/%s", names[i])) == 0);
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
    CHECK(exists(in_folder("outside/precious")) && !exists(in_folder("outside/new")));
    check_image(cache, "kept", "kept");
    image_cache_close(cache);
}

/* Under an image's name stands something that is no image. */
static void names_that_are_no_images(void)
{
    image_cache_t *cache = open_cache("odd");
    cache_image(cache, "image", "image");
    make_file(in_folder("precious"), "precious");
    CHECK(mkdir(in_folder("odd/folder"), 0755) == 0);
    CHECK(mkfifo(in_folder("odd/fifo"), 0644) == 0);
    CHECK(symlink(in_folder("precious"), in_folder("odd/link")) == 0);
    CHECK(symlink("/nowhere/at/all", in_folder("odd/dangling")) == 0);

    static const char *const names[] = {"folder", "fifo", "link", "dangling"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        image_cache_reader_t *reader = NULL;
        image_cache_writer_t *writer = NULL;
        CHECK(!is_cached(cache, names[i]));
        CHECK(image_cache_open_for_read(cache, names[i], &reader, &check_error) < 0 && reader == NULL);
        CHECK(hits_of(cache, names[i]) == 0);
        if (image_cache_begin_write(cache, names[i], &writer, &check_error) == IMAGE_CACHE_OK) {
            (void)image_cache_write_chunk(writer, "new", 3, &check_error);
            if (image_cache_commit(writer, &check_error) == IMAGE_CACHE_OK)
                check_image(cache, names[i], "new"); /* replacing it is right, too, if the image is there then */
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
    CHECK(sum == size); /* what is no image counts for nothing */
    image_cache_list_free(list);
    OK(image_cache_delete_all_cached_images(cache, &images, &check_error));
    CHECK(!is_cached(cache, "image"));
    image_cache_close(cache);

    cache = open_cache("odd"); /* nor does it keep the cache from opening */
    image_cache_close(cache);
    FILE *file = fopen(in_folder("precious"), "r");
    char text[16] = "";
    CHECK(file != NULL && fgets(text, sizeof text, file) != NULL && strcmp(text, "precious") == 0);
    fclose(file);
}

/* A directory that was named by mistake: as a cache, each of its files would be an image, and pruned. */
static void a_directory_of_other_files(void)
{
    image_cache_options_t *options = new_options();
    image_cache_t *cache = (void *)1;
    CHECK(mkdir(in_folder("home"), 0755) == 0);
    make_file(in_folder("home/thesis"), "years of work");
    STATUS(IMAGE_CACHE_ERROR_INVALID_ARGUMENT, image_cache_open(in_folder("home"), options, &cache, &check_error));
    CHECK(cache == NULL && strstr(check_error.message, "thesis") != NULL);
    CHECK(!exists(in_folder("home/incomplete")) && !exists(in_folder("home/cache.db")));

    /* Hidden files, folders and an index alone are no images; and with one of a cache's folders it is a cache's. */
    CHECK(rename(in_folder("home/thesis"), in_folder("home/.thesis")) == 0);
    CHECK(mkdir(in_folder("home/lost+found"), 0755) == 0);
    OK(image_cache_open(in_folder("home"), options, &cache, &check_error));
    image_cache_close(cache);
    CHECK(mkdir(in_folder("glance"), 0755) == 0 && mkdir(in_folder("glance/queue"), 0755) == 0);
    make_file(in_folder("glance/image"), "image");
    OK(image_cache_open(in_folder("glance"), options, &cache, &check_error));
    CHECK(is_cached(cache, "image"));
    image_cache_close(cache);
    image_cache_options_free(options);
}

/* Every file has the mode that the umask leaves of 0666, so that a group can share a cache. */
static void the_umask_decides(void)
{
    static const char *const files[] = {"image", "cache.db", "cache.db-wal", "queue/later", "incomplete/begun"};
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
            if (check_driver != IMAGE_CACHE_DRIVER_SQLITE && strncmp(files[i], "cache.db", 8) == 0)
                continue;
            CHECK(stat(in_folder("%s/%s", name, files[i]), &s) == 0);
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
    alarm(120); /* a fifo that is opened naively waits for ever */
    directories_that_cannot_be_opened();
    a_directory_without_rights();
    folders_that_are_links_or_files();
    names_that_are_no_images();
    a_directory_of_other_files();
    the_umask_decides();
    return 0;
}
