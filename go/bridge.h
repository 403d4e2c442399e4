/*
 * Calls of the library with a callback into Go. A Go value is passed as the number of its cgo.Handle: the library gets it as user data,
 * and never a Go pointer. A number of 0 means: no callback.
 */
#ifndef IMAGE_CACHE_GO_BRIDGE_H
#define IMAGE_CACHE_GO_BRIDGE_H

#include <image_cache.h>

image_cache_status_t image_cache_go_set_log(image_cache_options_t *options, uintptr_t handle,
                                            image_cache_error_t *error);
image_cache_status_t image_cache_go_set_inspector(image_cache_options_t *options, uintptr_t handle,
                                                  image_cache_error_t *error);
image_cache_status_t image_cache_go_tee_open(const image_cache_t *cache, const char *image_id, uintptr_t handle,
                                             image_cache_tee_t **tee, image_cache_error_t *error);
image_cache_status_t image_cache_go_stream_open(const image_cache_t *cache, const char *image_id, uintptr_t handle,
                                                image_cache_stream_t **stream, image_cache_error_t *error);
image_cache_status_t image_cache_go_prefetch(const image_cache_t *cache, uintptr_t handle, uint64_t *fetched,
                                             uint64_t *failed, image_cache_error_t *error);
image_cache_status_t image_cache_go_export(const image_cache_t *cache, const char *image_id, int fd, int32_t how,
                                           bool sync, uintptr_t handle, int32_t *done, image_cache_error_t *error);
/* The digests are NULL where none is expected. */
image_cache_status_t image_cache_go_import(const image_cache_t *cache, const char *image_id, int fd, int32_t how,
                                           bool expects_size, uint64_t size, const char *md5, const char *sha256,
                                           const char *sha512, uintptr_t handle, int32_t *done,
                                           image_cache_error_t *error);
image_cache_status_t image_cache_go_verify(const image_cache_t *cache, const char *image_id, uint64_t bytes_per_second,
                                           uint64_t skip_seconds, uintptr_t handle, image_cache_verify_result_t *result,
                                           image_cache_error_t *error);

#endif
