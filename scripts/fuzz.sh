#!/usr/bin/env bash
# Fuzzes the C ABI for FUZZ_SECONDS seconds, 60 unless told, beginning with fuzz/corpus. What it finds is kept in
# build/fuzz: new inputs in corpus/, those that fail in failures/. To look at one:
#
#     FUZZ_TRACE=1 build/fuzz/calls build/fuzz/failures/FILE
#
# scripts/fuzz.sh --keep puts the smallest set of inputs that reaches as much into fuzz/corpus, to be checked in.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
build=${FUZZ_BUILD:-$PWD/build/fuzz}
seconds=${FUZZ_SECONDS:-60}
scripts/install-tools.sh clang
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # a folder in memory, where there is one
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$build/corpus" "$build/failures"
library=$(scripts/sanitized-library.sh address)
clang -std=c99 -O1 -g -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude \
    fuzz/calls.c "$library" -lpthread -ldl -lm -o "$build/calls"
if [ "${1:-}" = --keep ]; then
    rm -rf "$build/small" && mkdir "$build/small"
    "$build/calls" -set_cover_merge=1 -use_counters=0 "$build/small" fuzz/corpus "$build/corpus" 2>&1 | tail -n 1
    rm -rf fuzz/corpus && mv "$build/small" fuzz/corpus
    exit
fi
"$build/calls" -max_total_time="$seconds" -max_len=400 -timeout=20 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/failures/" "$build/corpus" fuzz/corpus >"$build/log" 2>&1 ||
    { tail -n 80 "$build/log" && echo "The input: $build/failures" && exit 1; }
grep -aE '^Done|exec_per_sec|new_units' "$build/log"
echo "Nothing was found."
