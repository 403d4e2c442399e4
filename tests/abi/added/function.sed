# Shown: image_cache_new_function
s/^uint32_t image_cache_version_number(/void image_cache_new_function(void);\n&/
