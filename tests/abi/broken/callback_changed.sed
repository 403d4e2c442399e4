# Shown: image_cache_options_set_log
s/int32_t level, const char/int64_t level, const char/
