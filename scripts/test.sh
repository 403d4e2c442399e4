#!/usr/bin/env bash
# Runs every test there is, all stages even when one fails, and ends with a table and the line
# "N passed, N failed, N skipped". Each stage's output goes to build/test/logs; a failing stage's is shown, and all of
# it with VERBOSE=1 or CI=true. Tools that are missing are installed where that is allowed; else their tests are skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$PWD/build/test
logs=$build/logs
rm -rf "$logs" "$build/Testing"
mkdir -p "$logs"
exec </dev/null

# One target directory for all stages, so that dependencies are compiled once.
export CARGO_TARGET_DIR=$build/cargo CARGO_TERM_COLOR=never
export PATH="$PATH:/usr/sbin:/sbin"
unset MAKEFLAGS MAKELEVEL
jobs=$(nproc)
longest=1800 # seconds for one stage, so that a hang ends as a failure
passed=0 failed=0 skipped=0 table=''

command -v cargo >/dev/null || { echo "Rust is missing: cargo builds and tests the library." && exit 1; }
scripts/install-tools.sh cmake g++ clang valgrind abidiff python3 curl-config nbdkit nbdkit-plugin.h nbdcopy qemu-img \
    qemu-io pkg-config sqlite3.h go mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.ntfs mkfs.exfat mount.exfat-fuse debugfs strace \
    rsync systemd-tmpfiles mandoc shellcheck codespell clang-format ||
    echo "The tests that need what is missing are skipped, and counted so."

# What a failing stage's output is shown without: compilations, and tests that passed.
no_news='^ +(Compiling|Checking|Download(ed|ing)|PASS|Start) |^test .* ok$|Passed +[0-9.]+ sec$'

# ---- Stages ---------------------------------------------------------------------------------------------------------

number() { # PATTERN TEXT: the sum of the numbers that stand before PATTERN
    grep -oE "[0-9]+ $1" <<<"$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Each counter reads a log and sets p, f and s. A stage that is one check has none: its counter is "one".
count_nextest() {
    local line
    line=$(grep -E 'Summary \[' "$1" | tail -n 1)
    p=$(number passed "$line") s=$(number skipped "$line")
    f=$(($(number failed "$line") + $(number 'timed out' "$line")))
}

count_cargo() {
    local lines
    lines=$(grep -E '^test result: ' "$1")
    p=$(number passed "$lines") f=$(number failed "$lines") s=$(number ignored "$lines")
}

count_doc_tests() { count_cargo "$1" && may_be_empty=1; }

count_ctest() {
    local total
    total=$(sed -nE 's/.* tests failed out of ([0-9]+)$/\1/p' "$1" | tail -n 1)
    f=$(sed -nE 's/.*, ([0-9]+) tests failed out of [0-9]+$/\1/p' "$1" | tail -n 1)
    s=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*Skipped' "$1")
    f=${f:-0}
    p=$((${total:-0} - f - s))
}

row() { table+=$(printf '%-14s %-8s %7d %7d %8d %7d s' "$@")$'\n'; }

stage() { # NAME COUNTER COMMAND...
    local name=$1 counter=$2 log=$logs/${1// /-}.log start=$SECONDS code p=0 f=0 s=0 result=passed may_be_empty=0
    shift 2
    if [ -n "${CI:-}${VERBOSE:-}" ]; then
        printf '\n==== %s ====\n' "$name"
        timeout -k 10 "$longest" "$@" 2>&1 | tee "$log"
        code=${PIPESTATUS[0]}
    else
        printf '%-14s ' "$name"
        timeout -k 10 "$longest" "$@" >"$log" 2>&1
        code=$?
    fi
    if [ "$counter" = one ]; then
        [ "$code" -eq 0 ] && p=1
    else
        "$counter" "$log"
    fi
    # Whatever the counter found: a failure of the command is one, and so are tests of which none ran.
    [ "$f" -eq 0 ] && [ "$code" -ne 0 ] && f=1
    [ $((p + f + s + may_be_empty)) -eq 0 ] && f=1
    [ "$f" -gt 0 ] && result=failed
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    row "$name" "$result" "$p" "$f" "$s" $((SECONDS - start))
    echo "$result, $((SECONDS - start)) s"
    if [ "$f" -gt 0 ] && [ -z "${CI:-}${VERBOSE:-}" ]; then
        grep -vE "$no_news" "$log" | tail -n 200 | sed 's/^/    | /'
        echo "    (exit code $code; the whole log: $log)"
    fi
    [ "$f" -eq 0 ]
}

skip() { # NAME WHY
    printf '%-14s skipped: %s\n' "$1" "$2"
    skipped=$((skipped + 1))
    row "$1" skipped 0 0 1 0
}

cargo_has() { cargo "$1" --version >/dev/null 2>&1; }

sources() { # one line per file of the source tree, with its digest
    find . \( -path ./.git -o -path ./build -o -path ./target \) -prune -o -type f -print0 | sort -z |
        xargs -0 sha256sum
}

build_c() {
    cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DIMAGE_CACHE_WARNINGS_ARE_ERRORS=ON \
        "-DIMAGE_CACHE_CARGO_TARGET_DIR=$CARGO_TARGET_DIR" &&
        cmake --build "$build" --parallel "$jobs"
}

run_ctest() { cd "$build" && ctest --output-on-failure --parallel "$jobs"; }

# The sweeps of system calls use the processors while the others, most of which run at one pace, leave them idle.
run_sweeps() { # OPTIONS of cargo for the others
    local code=0
    cargo test --locked --no-run --test=crash "$@" || return
    nice -n 19 cargo test --locked --test=crash >"$logs/crash.log" 2>&1 &
    cargo test --locked --no-fail-fast "$@" || code=$?
    wait $! || code=$?
    cat "$logs/crash.log"
    return "$code"
}

same_sources() {
    sources >"$logs/sources.after"
    diff "$logs/sources.before" "$logs/sources.after" && echo "No build or test has written into the source tree."
}

# ---- All of them ----------------------------------------------------------------------------------------------------

export -f build_c run_ctest run_sweeps sources same_sources
export build logs jobs
sources >"$logs/sources.before"

if cargo_has fmt; then
    stage formatting one cargo fmt --check
else
    skip formatting "cargo fmt is not installed"
fi
if cargo_has clippy; then
    stage clippy one cargo clippy --locked --all-targets -- -D warnings
else
    skip clippy "cargo clippy is not installed"
fi
stage "other lints" one scripts/lint.sh
if ! command -v cmake >/dev/null; then
    skip "C build" "cmake is not installed"
elif stage "C build" one bash -c build_c; then
    # The Rust tests run the scenarios, too, and compare transcripts with this program's.
    export IMAGE_CACHE_SCENARIO_C=$build/tests/c/scenario
fi
# Each of the sweeps is one process, which counts what it swept.
sweeps=(power races corruption faults believed roles)
if cargo_has nextest; then
    printf -v others ' | binary(%s)' crash "${sweeps[@]}"
    stage "Rust tests" count_nextest cargo nextest run --locked --no-fail-fast -E "not (${others# | })"
else
    mapfile -t others < <(printf '%s\n' tests/*.rs tests/*/main.rs | sed -E 's,^tests/,,; s,(/main)?\.rs$,,' |
        grep -vxF "$(printf '%s\n' crash "${sweeps[@]}")" | sed 's/^/--test=/')
    stage "Rust tests" count_cargo cargo test --locked --lib "${others[@]}" --no-fail-fast
fi
stage sweeps count_cargo bash -c 'run_sweeps "$@"' run_sweeps "${sweeps[@]/#/--test=}"
stage "doc tests" count_doc_tests cargo test --locked --doc
if [ -n "${IMAGE_CACHE_SCENARIO_C:-}" ]; then
    stage "C tests" count_ctest bash -c run_ctest
else
    skip "C tests" "they could not be built"
fi
stage "source tree" one bash -c same_sources

printf '\n%-14s %-8s %7s %7s %8s %9s\n%s' stage result passed failed skipped time "$table"
reasons=$(sed -nE 's/^SKIPPED( .*\))?: /  /p' "$build/Testing/Temporary/LastTest.log" 2>/dev/null | sort -u)
[ -n "$reasons" ] && printf '\nSkipped C tests, because:\n%s\n' "$reasons"
printf '\nSwept, in this run (make test-crash sweeps longer):\n'
grep -o 'swept: .*' "$logs/sweeps.log" | sed 's/^swept: /  /'
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
