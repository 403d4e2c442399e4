# The caller allocates image_cache_error_t: it never grows.
# Shown: type size changed from 4096 to 8256
s/char message\[504\]/char message[1024]/
