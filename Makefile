# The front door. Everything that is built goes to build/ and target/.
.PHONY: help demo install test test-crash sanitizers fuzz bench instructions header abi fmt clean

help:
	@echo "make demo          cache a disk image with both drivers, and look at the result (KEEP=1 keeps the files)"
	@echo "make install       install the library and its header to PREFIX, /usr/local unless you say otherwise (DESTDIR too)"
	@echo "make test          run every test there is (VERBOSE=1 shows all of it)"
	@echo "make test-crash    only the sweeps, in full: kills, faults, power cuts (CUTS=1800), races (SECONDS=60), corruption; as root"
	@echo "make sanitizers    run the C tests with AddressSanitizer and ThreadSanitizer in all of the code"
	@echo "make fuzz          call the library at random for a minute (SECONDS=60)"
	@echo "make bench         measure it against bare system calls, on a machine that does nothing else (BENCH=--quick, BENCH=--peers)"
	@echo "make instructions  write tests/instructions/counts.txt anew, after a change of what hits, commits and closes cost"
	@echo "make header        write include/image_cache.h anew, after a change of src/ffi/"
	@echo "make abi           write tests/abi/image_cache.abi anew, after an addition to the C functions, types and constants"
	@echo "make fmt           format the Rust code"
	@echo "make clean         remove build/ and target/"

demo:
	@scripts/demo.sh

PREFIX ?= /usr/local
install:
	@scripts/install-tools.sh cmake
	cmake -S . -B build/install -DCMAKE_BUILD_TYPE=Release -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_EXAMPLES=OFF \
		"-DCMAKE_INSTALL_PREFIX=$(PREFIX)"
	cmake --build build/install
	DESTDIR="$(DESTDIR)" cmake --install build/install

test:
	@scripts/test.sh

test-crash:
	@CUTS=$(or $(CUTS),1800) RACE_SECONDS=$(or $(SECONDS),60) scripts/test-crash.sh

sanitizers:
	@scripts/sanitizers.sh

fuzz:
	@FUZZ_SECONDS=$(or $(SECONDS),$(FUZZ_SECONDS),60) scripts/fuzz.sh

bench:
	@scripts/bench.sh $(BENCH)

instructions:
	@scripts/instructions.sh

header:
	IMAGE_CACHE_UPDATE_HEADER=1 cargo test --locked --test header

abi:
	@scripts/install-tools.sh abidiff
	@tests/abi/abi.sh write

fmt:
	cargo fmt
	cargo fmt --manifest-path bench/Cargo.toml

clean:
	rm -rf build target
