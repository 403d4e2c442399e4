#!/usr/bin/env bash
# instructions.sh count|compare PROGRAM BUILD_TYPE OPERATION DRIVER
#
# Counts the instructions of one hit, of one commit, or of a close after 100 hits, with callgrind. The counts do not
# depend on the load of the machine. "compare" fails if they differ from counts.txt by more than 10 %: investigate an
# increase, and update counts.txt after a decrease.
set -eu
task=$1 program=$2 build_type=$3 operation=$4 driver=$5
here=$(cd "$(dirname "$0")" && pwd)
times=100
tolerance=10 # percent

skip() { echo "SKIPPED: $1" && exit 77; }
command -v valgrind >/dev/null || skip "valgrind is not installed"

# The library's instructions depend on the length of paths, so the directory's path always has 250 bytes.
enter_directory_of_fixed_length() {
    local length=250 missing
    directory=$PWD/$operation-$driver- # one per test, because tests run in parallel
    missing=$((length - ${#directory}))
    [ "$missing" -gt 0 ] || skip "the path of this directory is too long: $PWD"
    directory+=$(printf '%*s' "$missing" '' | tr ' ' p)
    mkdir -p "$directory"
    cd "$directory"
}

count() {
    local log total code
    log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=measured \
        "$program" "$driver" "$operation" "$times" 2>&1) || { code=$? && echo "$log" >&2 && exit "$code"; }
    total=$(sed -nE 's/.*Collected *: *([0-9]+).*/\1/p' <<<"$log")
    [ "${total:-0}" -gt 0 ] || { echo "callgrind counted nothing: $log" >&2 && exit 1; }
    [ "$operation" = close ] || total=$((total / times))
    echo "$total"
}

# A copy of a page is one instruction (rep movsb) or hundreds, as its addresses happen to lie. This makes it the same number each time.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=2147483647

enter_directory_of_fixed_length
trap 'rmdir "$directory" 2>/dev/null || true' EXIT
if [ "$task" = count ]; then
    counted=$(count)
    printf '%-8s %-8s %-7s %-7s %8d\n' "$(uname -m)" "$build_type" "$operation" "$driver" "$counted"
    exit
fi
expected=$(awk -v of="$(uname -m) $build_type $operation $driver" '$1 " " $2 " " $3 " " $4 == of { print $5 }' "$here/counts.txt")
[ -n "$expected" ] || skip "counts.txt has no number for a $build_type build on $(uname -m)"
counted=$(count)
change=$(awk -v counted="$counted" -v expected="$expected" 'BEGIN { printf "%+.1f", (counted / expected - 1) * 100 }')
echo "$counted instructions per $operation with the $driver driver ($build_type build), $change % against $expected"
awk -v change="$change" -v tolerance="$tolerance" 'BEGIN { exit !(change <= tolerance && change >= -tolerance) }' || {
    echo "The change is more than $tolerance %. If it is intended, or rustc differs ($(rustc --version), counts.txt has"
    echo "$(sed -n 's/^# Counted with //p' "$here/counts.txt")), update counts.txt: make instructions"
    exit 1
}
