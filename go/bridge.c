/* The functions that the library calls, and the calls that pass them. Each forwards to a Go function of callbacks.go. */
#include "bridge.h"

#include "_cgo_export.h"

static void log_message(void *user_data, int32_t level, const char *message)
{
    imageCacheGoLog((uintptr_t)user_data, level, (char *)message);
}

image_cache_status_t image_cache_go_set_log(image_cache_options_t *options, uintptr_t handle,
                                            image_cache_error_t *error)
{
    return image_cache_options_set_log(options, log_message, (void *)handle, error);
}

static image_cache_status_t inspect(void *user_data, const char *image_id, int32_t fd, uint64_t length, char *reason,
                                    size_t capacity)
{
    return imageCacheGoInspect((uintptr_t)user_data, (char *)image_id, fd, length, reason, capacity);
}

image_cache_status_t image_cache_go_set_inspector(image_cache_options_t *options, uintptr_t handle,
                                                  image_cache_error_t *error)
{
    return image_cache_options_set_inspector(options, inspect, (void *)handle, error);
}

static int64_t read_source(void *user_data, void *buffer, size_t capacity)
{
    return imageCacheGoSource((uintptr_t)user_data, buffer, capacity);
}

image_cache_status_t image_cache_go_tee_open(const image_cache_t *cache, const char *image_id, uintptr_t handle,
                                             image_cache_tee_t **tee, image_cache_error_t *error)
{
    return image_cache_tee_open(cache, image_id, read_source, (void *)handle, tee, error);
}

static int64_t read_range(void *user_data, uint64_t offset, void *buffer, size_t capacity)
{
    return imageCacheGoRangeSource((uintptr_t)user_data, offset, buffer, capacity);
}

image_cache_status_t image_cache_go_stream_open(const image_cache_t *cache, const char *image_id, uintptr_t handle,
                                                image_cache_stream_t **stream, image_cache_error_t *error)
{
    return image_cache_stream_open(cache, image_id, read_range, (void *)handle, stream, error);
}

static image_cache_status_t fetch(void *user_data, const char *image_id, image_cache_writer_t *writer)
{
    return imageCacheGoFetch((uintptr_t)user_data, (char *)image_id, writer);
}

image_cache_status_t image_cache_go_prefetch(const image_cache_t *cache, uintptr_t handle, uint64_t *fetched,
                                             uint64_t *failed, image_cache_error_t *error)
{
    return image_cache_prefetch(cache, fetch, (void *)handle, fetched, failed, error);
}

static int32_t copy_progress(void *user_data, uint64_t done, uint64_t total)
{
    return imageCacheGoCopyProgress((uintptr_t)user_data, done, total);
}

image_cache_status_t image_cache_go_export(const image_cache_t *cache, const char *image_id, int fd, int32_t how,
                                           bool sync, uintptr_t handle, int32_t *done, image_cache_error_t *error)
{
    image_cache_export_options_t options = {
        .sync = sync,
        .progress = handle != 0 ? copy_progress : NULL,
        .user_data = (void *)handle,
    };
    return image_cache_export(cache, image_id, fd, how, &options, sizeof options, done, error);
}

image_cache_status_t image_cache_go_import(const image_cache_t *cache, const char *image_id, int fd, int32_t how,
                                           bool expects_size, uint64_t size, const char *md5, const char *sha256,
                                           const char *sha512, uintptr_t handle, int32_t *done,
                                           image_cache_error_t *error)
{
    image_cache_import_options_t options = {
        .expects_size = expects_size,
        .size = size,
        .md5 = md5,
        .sha256 = sha256,
        .sha512 = sha512,
        .progress = handle != 0 ? copy_progress : NULL,
        .user_data = (void *)handle,
    };
    return image_cache_import(cache, image_id, fd, how, &options, sizeof options, done, error);
}

static int32_t verify_progress(void *user_data, const char *image_id, uint64_t done, uint64_t total)
{
    return imageCacheGoVerifyProgress((uintptr_t)user_data, (char *)image_id, done, total);
}

image_cache_status_t image_cache_go_verify(const image_cache_t *cache, const char *image_id, uint64_t bytes_per_second,
                                           uint64_t skip_seconds, uintptr_t handle, image_cache_verify_result_t *result,
                                           image_cache_error_t *error)
{
    image_cache_verify_options_t options = {
        .bytes_per_second = bytes_per_second,
        .skip_seconds = skip_seconds,
        .progress = handle != 0 ? verify_progress : NULL,
        .user_data = (void *)handle,
    };
    return image_cache_verify(cache, image_id, &options, sizeof options, result, sizeof *result, error);
}
