# Shown: image_cache_status_t
s/^typedef int32_t image_cache_status_t;/typedef int64_t image_cache_status_t;/
