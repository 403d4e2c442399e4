#!/usr/bin/env bash
# sanitized-library.sh address|thread
#
# Builds the static library with a sanitizer in all of it, the Rust code and SQLite's C, and prints its path. That for
# AddressSanitizer also tells a fuzzer where in the Rust code it has been. The compiler's switch for sanitizers is not
# stable yet; RUSTC_BOOTSTRAP=1 lets the stable compiler take it, for this build alone, which nobody is given.
set -eu
cd "$(dirname "$0")/.."
sanitizer=$1
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${SANITIZERS_BUILD:-$PWD/build/sanitizers}/cargo-$sanitizer
flags="-Zsanitizer=$sanitizer"
build=(cargo rustc --locked --lib --crate-type staticlib --target "$host")
if [ "$sanitizer" = thread ]; then
    # A lock that ThreadSanitizer does not see orders nothing, and std has the locks: it is built anew, from its source.
    build+=(-Zbuild-std)
else
    flags+=" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
fi
env CARGO_TARGET_DIR="$folder" CARGO_PROFILE_DEV_OPT_LEVEL=1 RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" CC=clang \
    CFLAGS="-fsanitize=$sanitizer -O1 -g -fno-omit-frame-pointer" "${build[@]}" >&2
echo "$folder/$host/debug/libimage_cache.a"
