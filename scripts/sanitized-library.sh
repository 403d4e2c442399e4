#!/usr/bin/env bash
# sanitized-library.sh address|thread
#
# Builds the static library with a sanitizer in all of its code, Rust and SQLite's C, and prints its path. With
# AddressSanitizer it also reports the coverage of the Rust code to a fuzzer. rustc's option for sanitizers is unstable;
# RUSTC_BOOTSTRAP=1 makes the stable compiler accept it, for this build only, which is never shipped.
set -eu
cd "$(dirname "$0")/.."
sanitizer=$1
host=$(rustc -vV | sed -n 's/^host: //p')
directory=${SANITIZERS_BUILD:-$PWD/build/sanitizers}/cargo-$sanitizer
flags="-Zsanitizer=$sanitizer"
build=(cargo rustc --locked --lib --crate-type staticlib --target "$host")
if [ "$sanitizer" = thread ]; then
    # ThreadSanitizer must see every lock, and std has the locks. So std is built from its source, too.
    build+=(-Zbuild-std)
else
    flags+=" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
fi
env CARGO_TARGET_DIR="$directory" CARGO_PROFILE_DEV_OPT_LEVEL=1 RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" CC=clang \
    CFLAGS="-fsanitize=$sanitizer -O1 -g -fno-omit-frame-pointer" "${build[@]}" >&2
echo "$directory/$host/debug/libimage_cache.a"
