# All tasks of the project. All output goes to build/ and target/.
.PHONY: help demo storm install test test-crash sanitizers fuzz bench figures docs instructions header abi fmt clean

help:
	@echo "make demo          cache a disk image with both drivers, check the files, share a download (KEEP=1 keeps them)"
	@echo "make storm         100 processes want one image, and the one that fetches it is killed (STORM='--readers 20')"
	@echo "make install       install the library and its header to PREFIX (/usr/local), below DESTDIR"
	@echo "make test          run all tests (VERBOSE=1 prints all output)"
	@echo "make test-crash    run the sweeps in full, as root: kills, faults, power cuts (CUTS=1800), races (SECONDS=60), corruption"
	@echo "make sanitizers    run the C tests with AddressSanitizer and ThreadSanitizer in all code"
	@echo "make fuzz          fuzz the C ABI (SECONDS=60)"
	@echo "make bench         compare it with bare system calls, on an idle machine (BENCH=--quick, BENCH=--peers)"
	@echo "make figures       write the figures of the last make test and make bench into docs/"
	@echo "make docs          render the documents with a search field, to build/docs/index.html"
	@echo "make instructions  update tests/instructions/counts.txt, after a change in the cost of hits, commits or closes"
	@echo "make header        update include/image_cache.h, after a change in src/ffi/"
	@echo "make abi           update tests/abi/image_cache.abi, after an addition to the C functions, types or constants"
	@echo "make fmt           format the Rust, C and C++ code"
	@echo "make clean         remove build/ and target/"

demo:
	@scripts/demo.sh

storm:
	@scripts/storm.sh $(STORM)

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

# Of the two logs, those that are there.
figures:
	@test ! -e build/test/logs/sweeps.log || scripts/figures.py sweeps build/test/logs/sweeps.log
	@test ! -e build/bench/figures.json || scripts/figures.py bench build/bench/figures.json

docs:
	@scripts/docs.sh

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
	cargo fmt --manifest-path tools/manual/Cargo.toml
	@scripts/install-tools.sh clang-format
	find examples examples-c fuzz tests '(' -name '*.[ch]' -o -name '*.cpp' ')' -exec clang-format -i {} +

clean:
	rm -rf build target
