# The front door. Everything that is built goes to build/ and target/.
.PHONY: help demo test header fmt clean

help:
	@echo "make demo     cache a disk image with both drivers, and look at the result (KEEP=1 keeps the files)"
	@echo "make test     run every test there is (VERBOSE=1 shows all of it)"
	@echo "make header   write include/image_cache.h anew, after a change of src/ffi/"
	@echo "make fmt      format the Rust code"
	@echo "make clean    remove build/ and target/"

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

header:
	IMAGE_CACHE_UPDATE_HEADER=1 cargo test --locked --test header

fmt:
	cargo fmt

clean:
	rm -rf build target
