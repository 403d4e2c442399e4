#!/usr/bin/env bash
# The feature system-sqlite, with two shared libraries made of the bundled source: one of its version, and one that says that it
# is an old one. The library is built with the first, and must refuse the SQLite driver with the second.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
scripts/install-tools.sh cmake pkg-config || skip_all "cmake or pkg-config is not installed"

work=$root/build/test-more/system-sqlite
rm -rf "$work"
mkdir -p "$work/new" "$work/old"
features=(--locked --no-default-features --features system-sqlite)

bundled=$(cargo metadata --locked --format-version 1 |
    grep -oE '"manifest_path":"[^"]*/libsqlite3-sys-[^"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
source=$(dirname "$bundled")/sqlite3
[ -e "$source/sqlite3.c" ] || { echo "FAILED: the bundled source of SQLite was not found: '$source'" && exit 1; }
version=$(sed -nE 's/^#define SQLITE_VERSION +"(.*)"/\1/p' "$source/sqlite3.c")
old=3.46.1 old_number=3046001
make_library() { # DIRECTORY SOURCE
    cc -shared -fPIC -O0 -DSQLITE_ENABLE_COLUMN_METADATA -Wl,-soname,libsqlite3.so.0 -o "$1/libsqlite3.so.0" "$2" &&
        ln -s libsqlite3.so.0 "$1/libsqlite3.so"
}
sed -E "s/^(#define SQLITE_VERSION +)\"$version\"/\1\"$old\"/; s/^(#define SQLITE_VERSION_NUMBER +)[0-9]+/\1$old_number/" \
    "$source/sqlite3.c" >"$work/old/sqlite3.c"
make_library "$work/new" "$source/sqlite3.c" && make_library "$work/old" "$work/old/sqlite3.c" || exit 1
cat >"$work/new/sqlite3.pc" <<END
Name: sqlite3
Description: SQLite $version, for a test
Version: $version
Libs: -L$work/new -lsqlite3
Cflags: -I$source
END
export PKG_CONFIG_PATH=$work/new

prefix=$work/prefix
library=$prefix/lib/libimage_cache.so.0
build() {
    cmake -S . -B "$work/build" -DCMAKE_BUILD_TYPE=Debug -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_EXAMPLES=OFF \
        -DIMAGE_CACHE_FEATURES=system-sqlite "-DIMAGE_CACHE_CARGO_TARGET_DIR=$work/target" >"$work/log" &&
        cmake --build "$work/build" >>"$work/log" 2>&1 && cmake --install "$work/build" --prefix "$prefix" >>"$work/log" && return
    tail -n 40 "$work/log"
    return 1
}
check "it builds with the SQLite that pkg-config finds" build || exit 1
export CARGO_TARGET_DIR=$work/target
needs_sqlite() { readelf --dynamic "$library" | grep -F 'NEEDED' | grep -F libsqlite3.so.0; }
check "the shared library needs libsqlite3.so.0" needs_sqlite
exports() { bash tests/abi/lists.sh nm "$library"; }
check "it exports the same functions" exports

cc -I include examples-c/quickstart.c -o "$work/quickstart" "-L$prefix/lib" -limage_cache "-Wl,-rpath-link,$work/new" || exit 1
quickstart() { # SQLITE DRIVER
    LD_LIBRARY_PATH="$prefix/lib:$work/$1" "$work/quickstart" Cargo.lock "$work/cache-$1-$2" "$2"
}
check "with a safe version of SQLite, the SQLite driver works" quickstart new sqlite
has_index() { [ -s "$work/cache-new-sqlite/cache.db" ]; }
check "it has an index" has_index
refused() {
    ! quickstart old sqlite 2>"$work/refused" && cat "$work/refused" &&
        grep -q "SQLite $old .*IMAGE_CACHE_ERROR_UNSUPPORTED" "$work/refused" && [ ! -e "$work/cache-old-sqlite/cache.db" ]
}
check "an unsafe version of SQLite is refused, with its version, and no index is made" refused
check "the xattr driver works with it" quickstart old xattr

static() {
    # shellcheck disable=SC2046
    cc -I include examples-c/quickstart.c -o "$work/static" "-L$work/new" \
        $(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --variable=static_libs image_cache) &&
        LD_LIBRARY_PATH=$work/new "$work/static" Cargo.lock "$work/cache-static"
}
check "the static library works, with the library that pkg-config adds" static

export LD_LIBRARY_PATH=$work/new
tests() { cargo test --quiet "${features[@]}" --lib --test recovery 2>&1; }
check "the tests of the index and of its recovery pass" tests
unset LD_LIBRARY_PATH

says() { # TEXT COMMAND...: it fails with that text
    local text=$1
    shift
    ! "$@" >"$work/said" 2>&1 && grep -F "$text" "$work/said"
}
check "both features at once do not build, and the message says what does" \
    says "build with --no-default-features" cargo check --quiet --locked --features system-sqlite
check "none of the two does not build" says "is needed" cargo check --quiet --locked --no-default-features
rm -rf "$work/target" "$work/build"
finish
