# A field of image_cache_statistics_t that is not the last one.
# Shown: 'uint64_t inserted'
s/^  uint64_t misses;$/&\n  uint64_t inserted;/
