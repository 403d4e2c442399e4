#!/usr/bin/env bash
# Two release builds of one source, in directories with names of different lengths and with other directories of cargo, give the same bytes:
# the shared library, the static one, the tool. No path of the build machine is in them.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
git rev-parse --git-dir >/dev/null 2>&1 || skip_all "the builds begin with a git repository, which this tree is not"

work=$root/build/test-more/reproducible
rm -rf "$work"
mkdir -p "$work"
if ! scripts/dist.sh "$work/dist" >"$work/dist.log" 2>&1; then
    tail -n 5 "$work/dist.log"
    skip_all "the release, which both builds are made of, cannot be made"
fi

build() { # DIRECTORY BUILD_DIRECTORY
    mkdir -p "$1" && tar -xJf "$work"/dist/*.tar.xz -C "$1" --strip-components 1 || return
    export CARGO_HOME="$1/home of cargo"
    if ! cmake -S "$1" -B "$2" -DCMAKE_BUILD_TYPE=Release -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_EXAMPLES=OFF \
        -DIMAGE_CACHE_TOOLS=ON >"$1.log" || ! cmake --build "$2" >>"$1.log" 2>&1; then
        tail -n 40 "$1.log"
        return 1
    fi
}
# Both at once: a release has parts that use one processor only.
(build "$work/the second/place of it" "$work/another build tree") &
second=$!
check "a first build" build "$work/a" "$work/a/build" || exit 1
check "a second one elsewhere" wait "$second" || exit 1
for file in lib/libimage_cache.so lib/libimage_cache.a cargo/release/image-cachectl manual/man3/image_cache_open.3 tool/man1/image-cachectl.1; do
    check "the same bytes: $file" cmp "$work/a/build/$file" "$work/another build tree/$file"
done
no_path() { ! strings --all "$1" | grep -F -e "$work" -e "$HOME/.cargo"; }
for file in lib/libimage_cache.so lib/libimage_cache.a cargo/release/image-cachectl; do
    check "no path of the build machine: $file" no_path "$work/a/build/$file"
done
sha256sum "$work/a/build/lib/libimage_cache.so"
rm -rf "$work/a" "$work/the second" "$work/another build tree"
finish
