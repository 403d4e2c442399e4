/* dlopen LIBRARY CACHE_DIR: 100 threads in turn load the library, use it, close it and end. At a thread's end the
 * destructors of its thread-local data run, so the library must still be loaded. */
#include <dlfcn.h>
#include <image_cache.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static char **arguments;

/* Finds a function. ISO C has no cast from an object pointer to a function pointer. */
#define FIND(library, name) (*(void **)&name = dlsym(library, "image_cache_" #name))

static void *use(void *round)
{
    image_cache_status_t (*open)(const char *, const image_cache_options_t *, image_cache_t **, image_cache_error_t *);
    image_cache_status_t (*begin_write)(const image_cache_t *, const char *, image_cache_writer_t **,
                                        image_cache_error_t *);
    image_cache_status_t (*write_chunk)(image_cache_writer_t *, const void *, size_t, image_cache_error_t *);
    image_cache_status_t (*commit)(image_cache_writer_t *, image_cache_error_t *);
    image_cache_status_t (*get_cache_size)(const image_cache_t *, uint64_t *, image_cache_error_t *);
    void (*close)(image_cache_t *);
    image_cache_error_t error = {0};
    image_cache_t *cache = NULL;
    image_cache_writer_t *writer = NULL;
    uint64_t size = 0;
    int number = *(int *)round;
    char id[16];

    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || !FIND(library, open) || !FIND(library, begin_write) || !FIND(library, write_chunk)
        || !FIND(library, commit) || !FIND(library, get_cache_size) || !FIND(library, close)) {
        fprintf(stderr, "%s\n", dlerror());
        return NULL;
    }
    snprintf(id, sizeof id, "%d", number);
    int succeeded = open(arguments[2], NULL, &cache, &error) == IMAGE_CACHE_OK
                    && begin_write(cache, id, &writer, &error) == IMAGE_CACHE_OK
                    && write_chunk(writer, "a byte or two", 10, &error) == IMAGE_CACHE_OK
                    && commit(writer, &error) == IMAGE_CACHE_OK
                    && get_cache_size(cache, &size, &error) == IMAGE_CACHE_OK && size == 10 * (uint64_t)(number + 1);
    if (!succeeded)
        fprintf(stderr, "%d: %s\n", number, error.message);
    close(cache);
    return dlclose(library) == 0 && succeeded ? round : NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    arguments = argv;
    for (int round = 0; round < 100; round++) {
        pthread_t thread;
        void *result = NULL;
        if (pthread_create(&thread, NULL, use, &round) != 0 || pthread_join(thread, &result) != 0 || result == NULL)
            return 1;
    }
    if (dlopen(arguments[1], RTLD_NOW | RTLD_NOLOAD) == NULL) {
        fprintf(stderr, "dlclose unloaded the library\n");
        return 1;
    }
    return 0;
}
