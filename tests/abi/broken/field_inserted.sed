# A new field of image_cache_entry_t that is not the last one.
# Shown: 'uint64_t generation'
s/^  const char \*digest;$/  uint64_t generation;\n&/
