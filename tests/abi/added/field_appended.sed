# A field at the end of a struct that the library allocates.
# Shown: 'uint64_t appended'
/^typedef struct image_cache_entry_t /,/^}/s/^  uint64_t allocated;$/&\n  uint64_t appended;/
