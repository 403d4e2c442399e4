# Shown: image_cache_read_at
s/^\( *\)uint64_t offset,/\1uint32_t offset,/
