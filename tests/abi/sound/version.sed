s/^\(#define IMAGE_CACHE_VERSION_MINOR\) .*/\1 99/
