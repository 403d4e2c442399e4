# Shown: image_cache_reader_fd
s/image_cache_reader_fd(/image_cache_reader_descriptor(/
