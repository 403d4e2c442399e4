/*
 * Everything that must hold at every moment: what the calls that ask say, and what is in the directory.
 */
#include "model.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t files_in_directory(const char *directory, uint64_t *bytes)
{
    uint64_t files = 0;
    *bytes = 0;
    DIR *walk = opendir(directory);
    MUST(walk != NULL);
    for (struct dirent *found; (found = readdir(walk)) != NULL;) {
        struct stat status;
        bool is_index = strncmp(found->d_name, "cache.db", 8) == 0 || found->d_name[0] == '.';
        if (is_index || fstatat(dirfd(walk), found->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        files++;
        *bytes += (uint64_t)status.st_size;
    }
    closedir(walk);
    return files;
}

/* The file is the image: looked at without the library and without an access time, which would count as use. */
static void compare_file(const image_t *image, const char *directory)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, image->id);
    int descriptor = open(path, O_RDONLY | O_NOATIME);
    MUST(descriptor >= 0);
    FILE *file = fdopen(descriptor, "rb");
    MUST(file != NULL);
    uint64_t at = 0;
    for (size_t length; (length = fread(buffer, 1, sizeof buffer, file)) > 0; at += length)
        check_buffer(image->seed, at, length);
    fclose(file);
    MUST(at == image->size);
}

void compare(image_cache_t *cache, const char *directory)
{
    uint64_t total = 0, count = 0, number, files_bytes;
    write_hits();
    for (int i = 0; i < IMAGES; i++) {
        image_t *image = &images[i];
        bool answer = !image->cached;
        OK(image_cache_is_cached(cache, image->id, &answer, &last_error));
        SAYING(answer == image->cached, "%.20s", image->id);
        OK(image_cache_is_queued(cache, image->id, &answer, &last_error));
        SAYING(answer == image->queued, "%.20s", image->id);
        OK(image_cache_is_being_cached(cache, image->id, &answer, &last_error));
        SAYING(answer == (image->owner != NOBODY), "%.20s", image->id);
        OK(image_cache_is_cacheable(cache, image->id, &answer, &last_error));
        SAYING(answer == (image->owner == NOBODY && !image->cached), "%.20s", image->id);
        STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
               image_cache_get_image_size(cache, image->id, &number, &last_error));
        SAYING(number == (image->cached ? image->size : 0), "%.20s", image->id);
        OK(image_cache_get_hit_count(cache, image->id, &number, &last_error));
        SAYING(!image->cached || !image->counted || number == image->hits, "%.20s: %" PRIu64, image->id, number);
        total += image->cached ? image->size : 0;
        count += image->cached;
        if (image->cached)
            compare_file(image, directory);
    }
    OK(image_cache_get_cache_size(cache, &number, &last_error));
    SAYING(number == total, "%" PRIu64 " and %" PRIu64, number, total);
    MUST(files_in_directory(directory, &files_bytes) == count && files_bytes == total);
}
