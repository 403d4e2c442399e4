# Shown: image_cache_reader_size
s/^uint64_t image_cache_reader_size(/int64_t image_cache_reader_size(/
