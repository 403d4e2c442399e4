# Shown: IMAGE_CACHE_ERROR_INDEX
s/^\(#define IMAGE_CACHE_ERROR_IO\) .*/\1 (-10)/
s/^\(#define IMAGE_CACHE_ERROR_INDEX\) .*/\1 (-9)/
