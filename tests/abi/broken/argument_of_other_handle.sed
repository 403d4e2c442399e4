# Shown: image_cache_reader_close
s/image_cache_reader_close(struct image_cache_reader_t /image_cache_reader_close(struct image_cache_tee_t /
