#!/usr/bin/env bash
# Fuzzes the C ABI for FUZZ_SECONDS seconds, 60 unless told, beginning with fuzz/corpus. What it finds is kept in
# build/fuzz, or in FUZZ_BUILD: new inputs in corpus/, those that fail in failures/. To look at one:
#
#     FUZZ_TRACE=1 build/fuzz/calls build/fuzz/failures/FILE
#
# scripts/fuzz.sh --keep puts the smallest set of inputs that reaches as much into fuzz/corpus, to be checked in.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
build=${FUZZ_BUILD:-$PWD/build/fuzz}
seconds=${FUZZ_SECONDS:-60}
case $#,${1:-} in 0, | 1,--keep) ;; *) echo "usage: fuzz.sh [--keep]" >&2 && exit 2 ;; esac
# libFuzzer takes 0, and what is no number, for "without end".
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: FUZZ_SECONDS is not a number of seconds: $seconds" >&2 && exit 2; }
scripts/install-tools.sh clang clang-runtime
mkdir -p "$build/corpus" "$build/failures"
echo "Building the library with AddressSanitizer; the first time takes minutes."
library=$(scripts/sanitized-library.sh address)
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # a folder in memory, where there is one
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mapfile -t sources < <(find fuzz -name '*.c' ! -name replay.c) # libFuzzer has a main of its own
clang -std=c99 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -Iinclude "${sources[@]}" "$library" -lpthread -ldl -lm -o "$build/calls"

report() { # what failed, from libFuzzer's log: how, by which input, and how to see it again; then this script fails
    local inputs
    tail -n 80 "$build/log"
    mapfile -t inputs < <(sed -n 's/.*Test unit written to //p' "$build/log")
    printf '\nIt failed (the whole log: %s).\n' "$build/log"
    for input in "${inputs[@]}"; do
        printf 'The input: %s\nOnce more, with the calls: FUZZ_TRACE=1 %q %q\n' "$input" "$build/calls" "$input"
    done
    exit 1
}

if [ "${1:-}" = --keep ]; then
    rm -rf "$build/small" && mkdir "$build/small"
    # A merge leaves out inputs that fail, and succeeds: none may.
    "$build/calls" -set_cover_merge=1 -use_counters=0 -artifact_prefix="$build/failures/" "$build/small" fuzz/corpus \
        "$build/corpus" >"$build/log" 2>&1 || report
    ! grep -q 'Test unit written to' "$build/log" || report
    tail -n 1 "$build/log"
    rm -rf fuzz/corpus && mv "$build/small" fuzz/corpus
    exit
fi
"$build/calls" -max_total_time="$seconds" -max_len=400 -timeout=20 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/failures/" "$build/corpus" fuzz/corpus >"$build/log" 2>&1 || report
grep -aE '^Done|exec_per_sec|new_units' "$build/log"
echo "Nothing was found."
