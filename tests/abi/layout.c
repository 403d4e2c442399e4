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
PIN(sizeof(image_cache_entry_t) == 72 && ALIGNMENT(image_cache_entry_t) == 8);
FIELD(image_cache_entry_t, image_id, 0, 8);
FIELD(image_cache_entry_t, size, 8, 8);
FIELD(image_cache_entry_t, hits, 16, 8);
FIELD(image_cache_entry_t, last_accessed, 24, 8);
FIELD(image_cache_entry_t, last_modified, 32, 8);
FIELD(image_cache_entry_t, digest, 40, 8);
FIELD(image_cache_entry_t, reason, 48, 8);
FIELD(image_cache_entry_t, process, 56, 8);
FIELD(image_cache_entry_t, since, 64, 8);

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

PIN(IMAGE_CACHE_DRIVER_SQLITE == 0);
PIN(IMAGE_CACHE_DRIVER_XATTR == 1);
PIN(IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE == 2);
PIN(IMAGE_CACHE_DURABILITY_NONE == 0);
PIN(IMAGE_CACHE_DURABILITY_FULL == 1);
PIN(IMAGE_CACHE_STREAM_CACHED == 0);
PIN(IMAGE_CACHE_STREAM_FETCHING == 1);
PIN(IMAGE_CACHE_STREAM_FOLLOWING == 2);
PIN(IMAGE_CACHE_STREAM_ALONE == 3);
PIN(IMAGE_CACHE_LOG_ERROR == 1);
PIN(IMAGE_CACHE_LOG_WARNING == 2);
PIN(IMAGE_CACHE_LOG_INFO == 3);
PIN(IMAGE_CACHE_LOG_DEBUG == 4);
