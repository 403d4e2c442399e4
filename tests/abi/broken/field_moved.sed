# Two fields of image_cache_entry_t are swapped.
# Shown: image_cache_entry_t
s/^  uint64_t hits;$/  int64_t last_accessed;/
t
s/^  int64_t last_accessed;$/  uint64_t hits;/
