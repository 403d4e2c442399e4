#include "compare.h"

#include "caches.h"
#include "checks.h"
#include "content.h"
#include "model.h"
#include "workspace.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void compare_queries(image_cache_t *cache, const image_t *image)
{
    uint64_t number;
    bool answer = !image->cached;
    OK(image_cache_is_cached(cache, image->id, &answer, &last_error));
    MUSTF(answer == image->cached, "%.20s", image->id);
    OK(image_cache_is_queued(cache, image->id, &answer, &last_error));
    MUSTF(answer == image->queued, "%.20s", image->id);
    OK(image_cache_is_being_cached(cache, image->id, &answer, &last_error));
    MUSTF(answer == has_incomplete_file(image), "%.20s", image->id);
    OK(image_cache_is_cacheable(cache, image->id, &answer, &last_error));
    MUSTF(answer == (!image->cached && !has_incomplete_file(image)), "%.20s", image->id);
    STATUS(image->cached ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_NOT_FOUND,
           image_cache_get_image_size(cache, image->id, &number, &last_error));
    MUSTF(number == (image->cached ? image->size : 0), "%.20s", image->id);
    OK(image_cache_get_hit_count(cache, image->id, &number, &last_error));
    MUSTF(!image->cached || !image->hits_exact || number == image->hits, "%.20s: %" PRIu64, image->id, number);
}

/* Reads the file without the library, and without setting its atime, which would count as an access. */
static void compare_file(const image_t *image)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", cache_directory, image->id);
    int descriptor = open(path, O_RDONLY | O_NOATIME);
    MUST(descriptor >= 0);
    FILE *file = fdopen(descriptor, "rb");
    MUST(file != NULL);
    uint64_t offset = 0;
    for (size_t length; (length = fread(buffer, 1, sizeof buffer, file)) > 0; offset += length)
        check_buffer(image->seed, offset, length);
    fclose(file);
    MUST(offset == image->size);
}

static uint64_t count_files(uint64_t *bytes)
{
    uint64_t files = 0;
    *bytes = 0;
    DIR *walk = opendir(cache_directory);
    MUST(walk != NULL);
    for (struct dirent *found; (found = readdir(walk)) != NULL;) {
        struct stat status;
        const char *name = found->d_name;
        bool is_index = strncmp(name, "cache.db", 8) == 0 || name[0] == '.';
        if (is_index || fstatat(dirfd(walk), name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        files++;
        *bytes += (uint64_t)status.st_size;
    }
    closedir(walk);
    return files;
}

void compare(image_cache_t *cache)
{
    uint64_t size, file_bytes;
    flush_accesses();
    for (int i = 0; i < IMAGES; i++) {
        compare_queries(cache, &images[i]);
        if (images[i].cached)
            compare_file(&images[i]);
    }
    OK(image_cache_get_cache_size(cache, &size, &last_error));
    MUSTF(size == cached_bytes(), "%" PRIu64 " and %" PRIu64, size, cached_bytes());
    MUST(count_files(&file_bytes) == count_cached() && file_bytes == cached_bytes());
}
