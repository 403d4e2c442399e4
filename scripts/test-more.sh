#!/usr/bin/env bash
# test-more.sh [STAGE...]
#
# The tests that take too long for `make test`, all stages or the named ones. It ends with a table, the reasons of what was
# skipped, and the line "N passed, N failed, N skipped". Each stage's output goes to build/test-more/logs; that of a failing
# one is shown, and all of it with VERBOSE=1. To add a stage: a script below tests/ that prints a line "passed: ...",
# "FAILED: ..." or "SKIPPED: ..." for each check, and a line in the list at the end of this one.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$PWD/build/test-more
logs=$build/logs
longest=2700 # seconds for one stage, so that a hang ends as a failure
mkdir -p "$logs"
exec </dev/null
export CARGO_TERM_COLOR=never PATH="$PATH:/usr/sbin:/sbin"
unset MAKEFLAGS MAKELEVEL

. scripts/stages.sh

wanted=("$@") known=() reasons=''
more() { # NAME COUNTER COMMAND...: a stage, if it is wanted
    known+=("$1")
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]] || return 0
    stage "$@"
    reasons+=$(sed -n "s/^SKIPPED: /\\n  $1: /p" "$logs/$1.log")
}

# The C tests that are too slow for `make test`.
slow_c_tests() {
    scripts/install-tools.sh cmake valgrind
    cmake -S . -B build/test -DCMAKE_BUILD_TYPE=Debug "-DIMAGE_CACHE_CARGO_TARGET_DIR=$PWD/build/test/cargo" &&
        cmake --build build/test --parallel "$(nproc)" &&
        cd build/test && ctest --output-on-failure --parallel "$(nproc)" --label-regex more
}
export -f slow_c_tests

# What has an equal in `make test`: the other driver without durability, forks and many streams with the other driver. And more of it.
longest=14400 more crash count_cargo env IMAGE_CACHE_CRASH=all IMAGE_CACHE_ROLES=all IMAGE_CACHE_MODEL_SEQUENCES=5000 \
    cargo test --locked --no-fail-fast --test crash --test roles --test model
more memory count_ctest bash -c slow_c_tests
more go count_last_line scripts/test-go.sh
more archive count_lines tests/packages/archive.sh
more cargo-c count_lines tests/packages/cargo_c.sh
more system-sqlite count_lines tests/packages/system_sqlite.sh
more reproducible count_lines tests/packages/reproducible.sh
more debian count_lines tests/packages/debian.sh
more conan count_lines tests/packages/conan.sh
more glance count_lines tests/glance/run.sh

for name in "${wanted[@]}"; do
    [[ " ${known[*]} " == *" $name "* ]] || { echo "no such stage: $name; there are: ${known[*]}" && exit 2; }
done
print_table
[ -z "$reasons" ] || printf '\nSkipped, because:%b\n' "$reasons"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
