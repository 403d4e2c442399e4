#!/usr/bin/env bash
# Counts the instructions of hits, commits and closes, and writes tests/instructions/counts.txt. It counts those of the
# debug build, which `make test` has and compares, and those of the release build, which users have.
set -eu
cd "$(dirname "$0")/.."
scripts/install-tools.sh cmake valgrind
unset MAKEFLAGS MAKELEVEL
directory=$PWD/tests/instructions
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
    echo "# Instructions per hit (open, read 4 KiB, close), per commit of 1 KiB, and of a close after 100 hits; durability none."
    echo "# \`make instructions\` writes this. A debug build's are compared by \`make test\`."
    echo "# Counted with $(rustc --version)"
} >"$new"
for build_type in Debug Release; do
    build=$PWD/build/instructions/$build_type cargo=$PWD/build/instructions/cargo
    # Reuses the build of `make test`, if there is one.
    [ "$build_type" = Debug ] && [ -d build/test/cargo ] && cargo=$PWD/build/test/cargo
    cmake -S . -B "$build" "-DCMAKE_BUILD_TYPE=$build_type" "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo" >/dev/null
    cmake --build "$build" --target instructions
    for work in hit commit close; do
        for driver in sqlite xattr; do
            (cd "$build" &&
                "$directory/instructions.sh" count "$build/tests/c/instructions" "$build_type" "$work" "$driver") |
                tee -a "$new"
        done
    done
done
cat "$new" >"$directory/counts.txt"
