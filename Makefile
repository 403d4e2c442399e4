# All tasks of the project. All output goes to build/ and target/.
.PHONY: help demo storm install dist test test-more test-crash sanitizers fuzz bench figures dashboard docs instructions header python abi fmt clean

help:
	@echo "make demo          cache a disk image with both drivers, check the files, share a download (KEEP=1 keeps them)"
	@echo "make storm         100 processes want one image, and the one that fetches it is killed (STORM='--readers 20')"
	@echo "make install       install the library and its header to PREFIX (/usr/local), below DESTDIR; TOOLS=ON: image-cachectl, too"
	@echo "make test          run all tests (VERBOSE=1 prints all output)"
	@echo "make test-more     run what takes longer: release, packages, reproducibility (STAGES='archive debian')"
	@echo "make test-crash    run the sweeps in full, as root: kills, faults, power cuts (CUTS=1800), races (SECONDS=60), corruption"
	@echo "make sanitizers    run the C tests with AddressSanitizer and ThreadSanitizer in all code"
	@echo "make fuzz          fuzz the C ABI (SECONDS=60)"
	@echo "make dist          make the release: sources with all crates, SBOM, sha256 sums, in build/dist"
	@echo "make bench         compare it with bare system calls, on an idle machine (BENCH=--quick, BENCH=--peers)"
	@echo "make figures       write the figures of the last make test and make bench into docs/"
	@echo "make dashboard     run each query of the dashboard on a real Prometheus"
	@echo "make docs          render the documents with a search field, to build/docs/index.html"
	@echo "make instructions  update tests/instructions/counts.txt, after a change in the cost of hits, commits or closes"
	@echo "make header        update include/image_cache.h, after a change in src/ffi/"
	@echo "make python        update the declarations of the Python package, after a change of include/image_cache.h"
	@echo "make abi           update tests/abi/image_cache.abi, after an addition to the C functions, types or constants"
	@echo "make fmt           format the Rust, C and C++ code"
	@echo "make clean         remove build/ and target/"

demo:
	@scripts/demo.sh

storm:
	@scripts/storm.sh $(STORM)

PREFIX ?= /usr/local
TOOLS ?= OFF
install:
	@scripts/install-tools.sh cmake
	cmake -S . -B build/install -DCMAKE_BUILD_TYPE=Release -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_EXAMPLES=OFF \
		"-DIMAGE_CACHE_TOOLS=$(TOOLS)" "-DCMAKE_INSTALL_PREFIX=$(PREFIX)"
	cmake --build build/install
	DESTDIR="$(DESTDIR)" cmake --install build/install

test:
	@scripts/test.sh

test-more:
	@scripts/test-more.sh $(STAGES)

dist:
	@scripts/dist.sh

test-crash:
	@CUTS=$(or $(CUTS),1800) RACE_SECONDS=$(or $(SECONDS),60) scripts/test-crash.sh

sanitizers:
	@scripts/sanitizers.sh

fuzz:
	@FUZZ_SECONDS=$(or $(SECONDS),$(FUZZ_SECONDS),60) scripts/fuzz.sh
	@FUZZ_TARGET=formats FUZZ_SECONDS=$(or $(SECONDS),$(FUZZ_SECONDS),60) scripts/fuzz.sh

bench:
	@scripts/bench.sh $(BENCH)

# Of the two logs, those that are there.
figures:
	@test ! -e build/test/logs/sweeps.log || scripts/figures.py sweeps build/test/logs/sweeps.log
	@test ! -e build/bench/figures.json || scripts/figures.py bench build/bench/figures.json

dashboard:
	@scripts/dashboard.sh

docs:
	@scripts/docs.sh

instructions:
	@scripts/instructions.sh

header:
	IMAGE_CACHE_UPDATE_HEADER=1 cargo test --locked --test header

# The interpreter has cffi: the system's, or one below build/.
python:
	python=$$(tests/python/environment.sh "$(CURDIR)/build/python" cffi pycparser) && "$$python" -B python/generate.py

abi:
	@scripts/install-tools.sh abidiff
	@tests/abi/abi.sh write

fmt:
	cargo fmt --package image-cache --package image-cachectl
	cargo fmt --manifest-path bench/Cargo.toml
	cargo fmt --manifest-path tools/manual/Cargo.toml
	@scripts/install-tools.sh clang-format go
	gofmt -w go examples/go tests/scenarios/go
	find examples examples-c fuzz go tests '(' -name '*.[ch]' -o -name '*.cpp' ')' -exec clang-format -i {} +

clean:
	rm -rf build target
