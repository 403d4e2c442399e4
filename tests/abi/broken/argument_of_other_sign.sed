# Shown: image_cache_clean
s/int64_t stall_time,/uint64_t stall_time,/
