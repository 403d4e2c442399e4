#!/usr/bin/env bash
# Tests the Go module for longer: with the race detector, and with the newest Go, which pip installs below build/. Both compile Go's
# standard library first. `make test` runs the module's tests, its lints and the scenarios with the Go of the distribution. The
# library is the one that `make test` builds and installs in its build tree. Ends with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1
build=$PWD/build/test cargo=$PWD/build/test/cargo
export CARGO_TARGET_DIR=$cargo CARGO_TERM_COLOR=never
scripts/install-tools.sh cmake go pkg-config python3 || echo "The tests that need what is missing are skipped, and counted so."

mkdir -p "$build/tests/consumers/work"
if ! cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo" >"$build/go.log" 2>&1 ||
    ! cmake --build "$build" >>"$build/go.log" 2>&1; then
    tail -n 30 "$build/go.log"
    echo "The library cannot be built."
    exit 1
fi
passed=0 failed=0 skipped=0
run() { # WHAT: a consumer of tests/consumers/consume.sh
    bash tests/consumers/consume.sh "$1" "$build/tests/consumers/work" "$build" "$PWD" "$cargo" Debug >"$build/$1.log" 2>&1
    case $? in
        0) passed=$((passed + 1)) ;;
        77) skipped=$((skipped + 1)) ;;
        *) failed=$((failed + 1)) ;;
    esac
    tail -n 30 "$build/$1.log"
}
run install >/dev/null
[ "$failed" -eq 0 ] || { cat "$build/install.log" && exit 1; }
passed=0
run go_race
run go_newest
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
