module agent

go 1.19

require imagecache v0.1.0

replace imagecache => ../../go
