#!/usr/bin/env bash
# instructions.sh count|compare PROGRAM BUILD_TYPE WORK DRIVER
#
# Counts the instructions of one hit, of one commit, or of a close after 100 hits, with callgrind: they do not depend on how
# busy the machine is. "compare" fails when they are not what counts.txt says, ± 10 %: more are a loss to look into, fewer a
# gain to write down.
set -eu
task=$1 program=$2 build_type=$3 work=$4 driver=$5
here=$(cd "$(dirname "$0")" && pwd)
times=100
tolerance=10 # percent

skip() { echo "SKIPPED: $1" && exit 77; }
command -v valgrind >/dev/null || skip "valgrind is not installed"

# The library makes paths, at a price that grows with them in steps: wherever this runs, they have one length.
enter_folder_of_fixed_length() {
    local length=250 missing
    folder=$PWD/$work-$driver- # each its own: tests run side by side
    missing=$((length - ${#folder}))
    [ "$missing" -gt 0 ] || skip "the path of this folder is too long: $PWD"
    folder+=$(printf '%*s' "$missing" '' | tr ' ' p)
    mkdir -p "$folder"
    cd "$folder"
}

count() {
    local log total code
    log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=measured \
        "$program" "$driver" "$work" "$times" 2>&1) || { code=$? && echo "$log" >&2 && exit "$code"; }
    total=$(sed -nE 's/.*Collected *: *([0-9]+).*/\1/p' <<<"$log")
    [ "${total:-0}" -gt 0 ] || { echo "callgrind counted nothing: $log" >&2 && exit 1; }
    [ "$work" = close ] || total=$((total / times))
    echo "$total"
}

enter_folder_of_fixed_length
trap 'rmdir "$folder" 2>/dev/null || true' EXIT
if [ "$task" = count ]; then
    found=$(count)
    printf '%-8s %-8s %-7s %-7s %8d\n' "$(uname -m)" "$build_type" "$work" "$driver" "$found"
    exit
fi
expected=$(awk -v of="$(uname -m) $build_type $work $driver" '$1 " " $2 " " $3 " " $4 == of { print $5 }' "$here/counts.txt")
[ -n "$expected" ] || skip "counts.txt has no number for a $build_type build on $(uname -m)"
found=$(count)
change=$(awk -v found="$found" -v expected="$expected" 'BEGIN { printf "%+.1f", (found / expected - 1) * 100 }')
echo "$found instructions per $work with the $driver driver ($build_type build), $change % against $expected"
awk -v change="$change" -v tolerance="$tolerance" 'BEGIN { exit !(change <= tolerance && change >= -tolerance) }' || {
    echo "That is a change by more than $tolerance %. Should it be meant, or rustc be another one ($(rustc --version); that of"
    echo "the numbers: $(sed -n 's/^# Counted with //p' "$here/counts.txt")), then write them anew: make instructions"
    exit 1
}
