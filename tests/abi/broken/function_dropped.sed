# Shown: image_cache_get_driver
/^int32_t image_cache_get_driver(/d
