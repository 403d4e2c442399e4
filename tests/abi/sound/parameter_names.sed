s/const char \*image_id,/const char *id,/
