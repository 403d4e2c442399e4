#!/usr/bin/env bash
# compare.sh REFERENCE DRIVER RUNNER [ARGUMENT...]
#
# Runs every scenario of cases/ on a driver, sqlite or xattr, with two runners: the program REFERENCE, and RUNNER ARGUMENT...
# Their transcripts must be equal, line by line, and no scenario may fail. docs/conformance.md describes it.
#
# Exit code 0: equal; 1: they differ, or a scenario failed; 2: wrong usage; 77: equal, and every scenario was skipped.
set -u
if [ $# -lt 3 ] || { [ "$2" != sqlite ] && [ "$2" != xattr ]; }; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
reference=$1 driver=$2
shift 2
cases=("$(dirname "$0")"/cases/*.scenario)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

failed=0
"$reference" "$driver" "${cases[@]}" >"$directory/expected" 2>"$directory/expected.log" || failed=1
[ "$failed" -eq 0 ] || { echo "the reference fails:" && tail -n 20 "$directory/expected.log"; }
"$@" "$driver" "${cases[@]}" >"$directory/actual" 2>"$directory/actual.log" || failed=1

# The scenarios whose transcripts differ, and the first line of each that does: "-" is the reference's.
scenarios() { awk '/^scenario /{ name = $2 } /^[0-9]+ passed, /{ name = "(totals)" } { print name "\t" $0 }' "$1"; }
scenarios "$directory/expected" >"$directory/expected.named"
scenarios "$directory/actual" >"$directory/actual.named"
if ! diff "$directory/expected.named" "$directory/actual.named" >"$directory/differences"; then
    failed=1
    sed -nE 's/^([<>]) ([^\t]*)\t(.*)/\2\t\1 \3/p' "$directory/differences" | sort -s -t "$(printf '\t')" -k 1,1 |
        awk -F '\t' '{ side = substr($2, 1, 1); if (!seen[$1, side]++) {
            if ($1 != name) print $1 ":"; name = $1
            print "  " (side == "<" ? "- " : "+ ") substr($2, 3) } }' | head -n 60
    echo "$(sed -nE 's/^[<>] ([^\t]*)\t.*/\1/p' "$directory/differences" | sort -u | grep -vc '^(totals)$') scenarios differ from the reference"
fi
[ "$failed" -eq 0 ] || head -n 20 "$directory/actual.log"
totals=$(tail -n 1 "$directory/actual")
echo "$driver: $totals"
[ "$failed" -eq 0 ] || exit 1
case $totals in "0 passed, 0 failed, "*) exit 77 ;; esac
