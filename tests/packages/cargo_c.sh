#!/usr/bin/env bash
# `cargo cinstall` installs the same files in the same places as `cmake --install`, except for the ones that docs/packaging.md names.
# Soname, symbols, header and links are equal; pkg-config says the same; a program runs with either. Both are debug builds, which
# differ from releases in nothing that is compared, and take a third of the time.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
scripts/install-tools.sh cmake pkg-config || skip_all "cmake or pkg-config is not installed"
scripts/cargo-tools.sh cargo-c || skip_all "cargo-c cannot be installed"

work=$root/build/test-more/cargo-c
rm -rf "$work"
mkdir -p "$work"
export CARGO_TARGET_DIR=$work/target
prefix=/usr libdir=lib/somewhere
by_cargo() {
    cargo cinstall --locked --debug --destdir "$work/by-cargo" --prefix "$prefix" --libdir "$libdir" >"$work/log" 2>&1 && return
    tail -n 40 "$work/log"
    return 1
}
check "cargo cinstall" by_cargo || exit 1
by_cmake() {
    cmake -S . -B "$work/build" -DCMAKE_BUILD_TYPE=Debug -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_EXAMPLES=OFF \
        "-DIMAGE_CACHE_CARGO_TARGET_DIR=$work/target" "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_INSTALL_LIBDIR=$libdir" >"$work/log" &&
        cmake --build "$work/build" >>"$work/log" 2>&1 && DESTDIR=$work/by-cmake cmake --install "$work/build" >>"$work/log" &&
        return
    tail -n 40 "$work/log"
    return 1
}
check "cmake --install" by_cmake || exit 1

# What only CMake installs: the package for CMake itself, the manual, which a tool makes of the header, and the Go module with a link
# to it.
files() { (cd "$1" && find . ! -type d -printf '%P -> %l\n' | grep -vE '^usr/(lib/somewhere/cmake/|share/man/|share/image_cache/|share/doc/image_cache/go )' | sort); }
same_files() { diff <(files "$work/by-cmake") <(files "$work/by-cargo") && files "$work/by-cargo" | wc -l; }
check "the same files, links and places" same_files
check "the header is the repository's" cmp include/image_cache.h "$work/by-cargo$prefix/include/image_cache.h"

dynamic() { readelf --dynamic --wide "$work/$1$prefix/$libdir/libimage_cache.so" | grep -E 'SONAME|NEEDED|FLAGS|RUNPATH|RPATH' | sed 's/^ *0x[0-9a-f]* *//'; }
same_dynamic() { diff <(dynamic by-cmake) <(dynamic by-cargo) && dynamic by-cargo; }
check "the same soname, needed libraries and flags" same_dynamic
symbols() { nm --dynamic --defined-only --format=posix "$work/$1$prefix/$libdir/libimage_cache.so" | awk '{ print $1, $2 }'; }
same_symbols() { diff <(symbols by-cmake) <(symbols by-cargo) && [ "$(symbols by-cargo | wc -l)" -ge 40 ]; }
check "the same functions with the same versions" same_symbols

ask_pkg_config() { # TREE ARGUMENTS...
    PKG_CONFIG_PATH=$work/$1$prefix/$libdir/pkgconfig pkg-config --define-prefix --define-variable=libdir=L \
        --define-variable=includedir=I "${@:2}" image_cache
}
same_pkg_config() {
    local question
    for question in --modversion --libs --cflags; do
        diff <(ask_pkg_config by-cmake $question) <(ask_pkg_config by-cargo $question) || return 1
    done
    ask_pkg_config by-cargo --modversion
}
check "pkg-config says the same" same_pkg_config

runs() { # TREE LIBRARY...: the program is linked with the header and library of that tree
    local tree=$work/$1$prefix
    shift
    rm -rf "$work/cache"
    cc -std=c99 -D_GNU_SOURCE -I "$tree/include" tests/consumers/plain.c tests/consumers/exercise.c -o "$work/program" \
        "-L$tree/$libdir" "$@" "-Wl,-rpath,$tree/$libdir" && "$work/program" "$work/cache"
}
check "a program runs with cargo-c's shared library" runs by-cargo -limage_cache
check "a program runs with cargo-c's static library" runs by-cargo -l:libimage_cache.a -lutil -lrt -lpthread -lm -ldl
check "a program runs with CMake's shared library" runs by-cmake -limage_cache
rm -rf "$work/target" "$work/build"
finish
