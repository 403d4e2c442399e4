/* Includes the header first, so that it depends on no other, and calls some functions. Compiles as C99, C11 and C++17. */
#include <image_cache.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    image_cache_error_t error;
    image_cache_options_t *options = image_cache_options_new();
    image_cache_t *cache = NULL;
    image_cache_status_t status;
    char version[64];

    memset(&error, 0, sizeof error);
    status = image_cache_options_set_driver(options, 99, &error);
    image_cache_close(cache);
    image_cache_options_free(options);
    snprintf(version, sizeof version, "%d.%d.%d", IMAGE_CACHE_VERSION_MAJOR, IMAGE_CACHE_VERSION_MINOR,
             IMAGE_CACHE_VERSION_PATCH);
    printf("%s, %s: %s\n", image_cache_version(), image_cache_status_name(status), error.message);
    return status == IMAGE_CACHE_ERROR_INVALID_ARGUMENT && strcmp(version, image_cache_version()) == 0 ? 0 : 1;
}
