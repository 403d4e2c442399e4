#!/usr/bin/env bash
# storm.sh [OPTION...]: runs examples-c/storm in build/: 100 processes want one image, and the one that fetches is killed.
# OPTIONs are storm's, for example --readers 20 --deaths 5 --size 64 --rate 32 --driver xattr.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$PWD/build/demo # the demo's, which has the same programs
log=$PWD/build/storm.log

command -v cargo >/dev/null || { echo "Rust is missing: cargo builds the library." >&2 && exit 1; }
scripts/install-tools.sh cmake curl-config
mkdir -p build
echo "Building the library and the examples; the first time takes a minute or two."
{ cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DIMAGE_CACHE_TESTS=OFF &&
    cmake --build "$build" --parallel "$(nproc)"; } >"$log" 2>&1 ||
    { tail -n 60 "$log" && echo "(the whole log: $log)" && exit 1; } >&2
echo
TMPDIR=$PWD/build exec "$build/examples-c/storm" "$@"
