#!/usr/bin/env bash
# Fuzzes the C ABI for FUZZ_SECONDS seconds (60), beginning with fuzz/corpus. It keeps new inputs in build/fuzz/corpus and
# failing ones in build/fuzz/failures; FUZZ_BUILD replaces build/fuzz. With FUZZ_TARGET=formats, it fuzzes the inspection of
# images, with fuzz/formats/corpus and build/fuzz/formats. To replay an input and print its calls:
#
#     FUZZ_TRACE=1 build/fuzz/calls build/fuzz/failures/FILE
#
# scripts/fuzz.sh --keep replaces that corpus, which is checked in, by the smallest set of inputs with the same coverage.
set -eu
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL
build=${FUZZ_BUILD:-$PWD/build/fuzz}
target=${FUZZ_TARGET:-calls}
case $target in
    calls) from=fuzz longest=400 ;;
    formats) from=fuzz/formats longest=4096 build=$build/formats ;;
    *) echo "fuzz.sh: FUZZ_TARGET is neither calls nor formats: $target" >&2 && exit 2 ;;
esac
seconds=${FUZZ_SECONDS:-60}
case $#,${1:-} in 0, | 1,--keep) ;; *) echo "usage: fuzz.sh [--keep]" >&2 && exit 2 ;; esac
# libFuzzer never ends with 0 seconds, or with a word that is not a number.
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: FUZZ_SECONDS is not a number of seconds: $seconds" >&2 && exit 2; }
scripts/install-tools.sh clang clang-runtime
mkdir -p "$build/corpus" "$build/failures"
echo "Building the library with AddressSanitizer; the first time takes minutes."
library=$(scripts/sanitized-library.sh address)
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # a directory in memory, if there is one
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mapfile -t sources < <(find "$from" -maxdepth 1 -name '*.c' ! -name replay.c) # libFuzzer has its own main
clang -std=c99 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -Iinclude "${sources[@]}" "$library" -lpthread -ldl -lm -o "$build/$target"

report() { # prints the failure and its inputs from libFuzzer's log, and exits with 1
    local inputs
    tail -n 80 "$build/log"
    mapfile -t inputs < <(sed -n 's/.*Test unit written to //p' "$build/log")
    printf '\nFuzzing failed (the whole log: %s).\n' "$build/log"
    for input in "${inputs[@]}"; do
        printf 'The input: %s\nTo replay it with its calls: FUZZ_TRACE=1 %q %q\n' "$input" "$build/$target" "$input"
    done
    exit 1
}

if [ "${1:-}" = --keep ]; then
    rm -rf "$build/small" && mkdir "$build/small"
    # A merge succeeds even if it drops inputs that fail, so the log is searched for them.
    "$build/$target" -set_cover_merge=1 -use_counters=0 -artifact_prefix="$build/failures/" "$build/small" "$from/corpus" \
        "$build/corpus" >"$build/log" 2>&1 || report
    ! grep -q 'Test unit written to' "$build/log" || report
    tail -n 1 "$build/log"
    rm -rf "${from:?}/corpus" && mv "$build/small" "$from/corpus"
    exit
fi
"$build/$target" -max_total_time="$seconds" -max_len="$longest" -timeout=20 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/failures/" "$build/corpus" "$from/corpus" >"$build/log" 2>&1 || report
grep -aE '^Done|exec_per_sec|new_units' "$build/log"
echo "No failure."
