/*
 * Asserts the parts of the ABI that programs compile in: the structs' layouts and the constants' values. The test
 * compiles it as C11 and as C++17, on platforms with 64-bit pointers and longs. Add new declarations here. A change of
 * an existing line needs a new number in the SONAME.
 */
#include <image_cache.h>

#ifdef __cplusplus
#define PIN(condition) static_assert(condition, #condition)
#define ALIGNMENT(type) alignof(type)
#else
#define PIN(condition) _Static_assert(condition, #condition)
#define ALIGNMENT(type) _Alignof(type)
#endif
#define FIELD(type, name, offset, size) PIN(offsetof(type, name) == (offset) && sizeof(((type *)0)->name) == (size))

/* The caller allocates it, so its size never changes. */
PIN(sizeof(image_cache_error_t) == 512 && ALIGNMENT(image_cache_error_t) == 4);
FIELD(image_cache_error_t, status, 0, 4);
FIELD(image_cache_error_t, os_error, 4, 4);
FIELD(image_cache_error_t, message, 8, 504);

/* The library allocates it, so fields may be appended. No offset changes. */
PIN(sizeof(image_cache_entry_t) == 88 && ALIGNMENT(image_cache_entry_t) == 8);
FIELD(image_cache_entry_t, image_id, 0, 8);
FIELD(image_cache_entry_t, size, 8, 8);
FIELD(image_cache_entry_t, hits, 16, 8);
FIELD(image_cache_entry_t, last_accessed, 24, 8);
FIELD(image_cache_entry_t, last_modified, 32, 8);
FIELD(image_cache_entry_t, digest, 40, 8);
FIELD(image_cache_entry_t, reason, 48, 8);
FIELD(image_cache_entry_t, process, 56, 8);
FIELD(image_cache_entry_t, since, 64, 8);
FIELD(image_cache_entry_t, pinned_until, 72, 8);
FIELD(image_cache_entry_t, allocated, 80, 8);

/* The caller allocates it and passes its size, so fields may be appended. No offset changes. */
PIN(sizeof(image_cache_statistics_t) == 192);
FIELD(image_cache_statistics_t, images, 0, 8);
FIELD(image_cache_statistics_t, bytes, 8, 8);
FIELD(image_cache_statistics_t, allocated, 16, 8);
FIELD(image_cache_statistics_t, limit, 24, 8);
FIELD(image_cache_statistics_t, free, 32, 8);
FIELD(image_cache_statistics_t, next_victim_idle, 40, 8);
FIELD(image_cache_statistics_t, hits, 48, 8);
FIELD(image_cache_statistics_t, misses, 56, 8);
FIELD(image_cache_statistics_t, commits, 64, 8);
FIELD(image_cache_statistics_t, aborted_by_call, 72, 8);
FIELD(image_cache_statistics_t, closed_early, 80, 8);
FIELD(image_cache_statistics_t, wrong_digest, 88, 8);
FIELD(image_cache_statistics_t, wrong_size, 96, 8);
FIELD(image_cache_statistics_t, no_space, 104, 8);
FIELD(image_cache_statistics_t, lost, 112, 8);
FIELD(image_cache_statistics_t, source_failed, 120, 8);
FIELD(image_cache_statistics_t, other_failures, 128, 8);
FIELD(image_cache_statistics_t, evictions, 136, 8);
FIELD(image_cache_statistics_t, evicted_bytes, 144, 8);
FIELD(image_cache_statistics_t, streams_followed, 152, 8);
FIELD(image_cache_statistics_t, bytes_not_fetched, 160, 8);
FIELD(image_cache_statistics_t, bytes_served, 168, 8);
FIELD(image_cache_statistics_t, verified, 176, 8);
FIELD(image_cache_statistics_t, found_damaged, 184, 8);

/* The caller allocates it, and passes its size, so fields may be appended. No offset changes. */
PIN(sizeof(image_cache_usage_t) == 88 && ALIGNMENT(image_cache_usage_t) == 8);
FIELD(image_cache_usage_t, cached, 0, 8);
FIELD(image_cache_usage_t, incomplete, 8, 8);
FIELD(image_cache_usage_t, reserved, 16, 8);
FIELD(image_cache_usage_t, invalid, 24, 8);
FIELD(image_cache_usage_t, deleted, 32, 8);
FIELD(image_cache_usage_t, limit, 40, 8);
FIELD(image_cache_usage_t, is_hard, 48, 8);
FIELD(image_cache_usage_t, free, 56, 8);
FIELD(image_cache_usage_t, min_free, 64, 8);
FIELD(image_cache_usage_t, free_inodes, 72, 8);
FIELD(image_cache_usage_t, pinned, 80, 8);

/* The caller allocates them and passes their sizes, so fields may be appended. No offset changes. */
PIN(sizeof(image_cache_export_options_t) == 24 && ALIGNMENT(image_cache_export_options_t) == 8);
FIELD(image_cache_export_options_t, sync, 0, 8);
FIELD(image_cache_export_options_t, progress, 8, 8);
FIELD(image_cache_export_options_t, user_data, 16, 8);
PIN(sizeof(image_cache_import_options_t) == 56 && ALIGNMENT(image_cache_import_options_t) == 8);
FIELD(image_cache_import_options_t, expects_size, 0, 8);
FIELD(image_cache_import_options_t, size, 8, 8);
FIELD(image_cache_import_options_t, md5, 16, 8);
FIELD(image_cache_import_options_t, sha256, 24, 8);
FIELD(image_cache_import_options_t, sha512, 32, 8);
FIELD(image_cache_import_options_t, progress, 40, 8);
FIELD(image_cache_import_options_t, user_data, 48, 8);
PIN(sizeof(image_cache_verify_options_t) == 32 && ALIGNMENT(image_cache_verify_options_t) == 8);
FIELD(image_cache_verify_options_t, bytes_per_second, 0, 8);
FIELD(image_cache_verify_options_t, skip_seconds, 8, 8);
FIELD(image_cache_verify_options_t, progress, 16, 8);
FIELD(image_cache_verify_options_t, user_data, 24, 8);
PIN(sizeof(image_cache_verify_result_t) == 56 && ALIGNMENT(image_cache_verify_result_t) == 8);
FIELD(image_cache_verify_result_t, verified, 0, 8);
FIELD(image_cache_verify_result_t, failed, 8, 8);
FIELD(image_cache_verify_result_t, unreadable, 16, 8);
FIELD(image_cache_verify_result_t, without_digest, 24, 8);
FIELD(image_cache_verify_result_t, skipped, 32, 8);
FIELD(image_cache_verify_result_t, bytes_read, 40, 8);
FIELD(image_cache_verify_result_t, stopped, 48, 8);

PIN(sizeof(image_cache_status_t) == 4 && (image_cache_status_t)-1 < 0);
PIN(IMAGE_CACHE_OK == 0);
PIN(IMAGE_CACHE_ERROR_INVALID_ARGUMENT == -1);
PIN(IMAGE_CACHE_ERROR_INVALID_IMAGE_ID == -2);
PIN(IMAGE_CACHE_ERROR_NOT_FOUND == -3);
PIN(IMAGE_CACHE_ERROR_ALREADY_CACHED == -4);
PIN(IMAGE_CACHE_ERROR_BEING_CACHED == -5);
PIN(IMAGE_CACHE_ERROR_DIGEST_MISMATCH == -6);
PIN(IMAGE_CACHE_ERROR_SIZE_MISMATCH == -7);
PIN(IMAGE_CACHE_ERROR_NO_SPACE == -8);
PIN(IMAGE_CACHE_ERROR_IO == -9);
PIN(IMAGE_CACHE_ERROR_INDEX == -10);
PIN(IMAGE_CACHE_ERROR_UNSUPPORTED == -11);
PIN(IMAGE_CACHE_ERROR_LOST == -12);
PIN(IMAGE_CACHE_ERROR_SOURCE == -13);
PIN(IMAGE_CACHE_ERROR_FORKED == -14);
PIN(IMAGE_CACHE_ERROR_INTERNAL == -15);
PIN(IMAGE_CACHE_ERROR_NO_MEMORY == -16);
PIN(IMAGE_CACHE_ERROR_TIMED_OUT == -17);
PIN(IMAGE_CACHE_ERROR_REFUSED == -18);
PIN(IMAGE_CACHE_ERROR_PINNED == -19);

PIN(IMAGE_CACHE_DRIVER_SQLITE == 0);
PIN(IMAGE_CACHE_DRIVER_XATTR == 1);
PIN(IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE == 2);
PIN(IMAGE_CACHE_DURABILITY_NONE == 0);
PIN(IMAGE_CACHE_DURABILITY_FULL == 1);
PIN(IMAGE_CACHE_LIMIT_SOFT == 0);
PIN(IMAGE_CACHE_LIMIT_HARD == 1);
PIN(IMAGE_CACHE_STREAM_CACHED == 0);
PIN(IMAGE_CACHE_STREAM_FETCHING == 1);
PIN(IMAGE_CACHE_STREAM_FOLLOWING == 2);
PIN(IMAGE_CACHE_STREAM_ALONE == 3);
PIN(IMAGE_CACHE_LOG_ERROR == 1);
PIN(IMAGE_CACHE_LOG_WARNING == 2);
PIN(IMAGE_CACHE_LOG_INFO == 3);
PIN(IMAGE_CACHE_LOG_DEBUG == 4);
