# Shown: image_cache_list_free
s/image_cache_list_free(struct image_cache_list_t \*list)/image_cache_list_free(struct image_cache_list_t *list, int32_t how)/
