#!/usr/bin/env bash
# test_compare.sh RUNNER: compare.sh accepts a runner that prints the same, and reports each way to print something else.
set -u
compare=$(dirname "$0")/compare.sh
runner=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

recorded=$directory/recorded # what the runner prints, so that it runs once
"$runner" sqlite "$(dirname "$0")"/cases/*.scenario >"$recorded" || { echo "the runner fails" && exit 1; }
printf '#!/bin/sh\ncat "%s"\n' "$recorded" >"$directory/same"

altered() { # NAME SED_SCRIPT: a runner that prints an altered transcript
    sed "$2" "$recorded" >"$directory/$1.txt"
    cmp -s "$recorded" "$directory/$1.txt" && echo "$1: sed changes nothing" && exit 1
    printf '#!/bin/sh\ncat "%s"\n' "$directory/$1.txt" >"$directory/$1"
}
altered result '0,/=> NOT_FOUND/s//=> IO/'
altered value '0,/ passed, /!b; 0,/ 1024,0,/s// 1024,1,/; 0,/=> OK true/s//=> OK false/'
altered line_missing '0,/=> OK$/{/=> OK$/d}'
altered scenario_missing '/^scenario prune (/,/^$/d'
# shellcheck disable=SC2016
altered totals '$s/^[0-9]*/1/'
altered empty 1,\$d
printf '#!/bin/sh\ncat "%s"\nexit 1\n' "$recorded" >"$directory/exit_code"
printf '#!/bin/sh\necho "it crashed" >&2\nkill -SEGV $$\n' >"$directory/crash"
chmod +x "$directory"/*

"$compare" "$directory/same" sqlite "$directory/same" >"$directory/out" || { echo "equal transcripts are refused" && cat "$directory/out" && exit 1; }
for wrong in result value line_missing scenario_missing totals empty exit_code crash; do
    "$compare" "$directory/same" sqlite "$directory/$wrong" >"$directory/out" 2>&1
    code=$?
    [ "$code" -eq 1 ] || { echo "$wrong: exit code $code instead of 1" && cat "$directory/out" && exit 1; }
done
"$compare" "$directory/same" other "$directory/same" >/dev/null 2>&1
[ $? -eq 2 ] || { echo "an unknown driver is not refused" && exit 1; }
"$compare" "$directory/same" sqlite "$directory/result" | grep -q '^  + .*=> IO$' || { echo "the difference is not shown" && exit 1; }
echo "8 altered transcripts were reported"
