#!/usr/bin/env bash
# Counts the instructions of hits, commits and closes anew, and writes tests/instructions/counts.txt: of the debug build,
# which `make test` compares since it has it anyway, and of the release build, which is what users get.
set -eu
cd "$(dirname "$0")/.."
scripts/install-tools.sh cmake valgrind
unset MAKEFLAGS MAKELEVEL
folder=$PWD/tests/instructions
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
    echo "# Instructions per hit (open, read 4 KiB, close), per commit of 1 KiB, and of a close after 100 hits; durability none."
    echo "# \`make instructions\` writes this. A debug build's are compared by \`make test\`."
    echo "# Counted with $(rustc --version)"
} >"$new"
for build_type in Debug Release; do
    build=$PWD/build/instructions/$build_type cargo=$PWD/build/instructions/cargo
    # That of `make test`, where it was run before.
    [ "$build_type" = Debug ] && [ -d build/test/cargo ] && cargo=$PWD/build/test/cargo
    cmake -S . -B "$build" "-DCMAKE_BUILD_TYPE=$build_type" "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo" >/dev/null
    cmake --build "$build" --target instructions
    for work in hit commit close; do
        for driver in sqlite xattr; do
            (cd "$build" && "$folder/instructions.sh" count "$build/tests/c/instructions" "$build_type" "$work" "$driver") |
                tee -a "$new"
        done
    done
done
cat "$new" >"$folder/counts.txt"
