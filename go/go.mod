module imagecache

go 1.19
