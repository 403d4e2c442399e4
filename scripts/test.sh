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

command -v cargo >/dev/null || { echo "Rust is missing: cargo builds and tests the library." && exit 1; }
scripts/install-tools.sh cmake g++ clang valgrind abidiff python3 python3-venv python3-cffi curl-config nbdkit nbdkit-plugin.h nbdcopy \
    qemu-img xorriso qemu-io pkg-config sqlite3.h go go-staticcheck mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.ntfs mkfs.exfat \
    mount.exfat-fuse debugfs strace rsync systemd-tmpfiles systemd-analyze bindfs promtool prometheus_client mandoc zsh fish \
    shellcheck codespell clang-format ||
    echo "The tests that need what is missing are skipped, and counted so."

# ---- Stages ---------------------------------------------------------------------------------------------------------

. scripts/stages.sh

cargo_has() { cargo "$1" --version >/dev/null 2>&1; }

sources() { # one line per file of the source tree, with its digest
    find . \( -path ./.git -o -path ./build -o -path ./target \) -prune -o -type f -print0 | sort -z |
        xargs -0 sha256sum
}

build_c() {
    cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DIMAGE_CACHE_WARNINGS_ARE_ERRORS=ON -DIMAGE_CACHE_TOOLS=ON \
        "-DIMAGE_CACHE_CARGO_TARGET_DIR=$CARGO_TARGET_DIR" &&
        cmake --build "$build" --parallel "$jobs"
}

# One more than there are processors: some wait for servers and locks.
run_ctest() { cd "$build" && ctest --output-on-failure --parallel $((jobs + 1)) --label-exclude more; }

# The sweeps of system calls, which wait for deadlines at times, use the processors while the others, most of which run at one pace, leave
# them idle.
run_sweeps() { # OPTIONS of cargo for the others
    local code=0 crash roles
    cargo test --locked --no-run --test=crash --test=roles "$@" || return
    nice -n 19 cargo test --locked --test=crash -- --test-threads=$((2 * jobs)) >"$logs/crash.log" 2>&1 &
    crash=$!
    nice -n 10 cargo test --locked --test=roles >"$logs/roles.log" 2>&1 &
    roles=$!
    cargo test --locked --no-fail-fast "$@" || code=$?
    wait "$roles" || code=$?
    wait "$crash" || code=$?
    cat "$logs/roles.log" "$logs/crash.log"
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
    stage formatting one cargo fmt --package image-cache --package image-cachectl --check
else
    skip formatting "cargo fmt is not installed"
fi
if cargo_has clippy; then
    stage clippy one cargo clippy --locked --workspace --all-targets -- -D warnings
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
sweeps=(power races corruption faults believed limit)
if cargo_has nextest; then
    printf -v others ' | binary(%s)' crash roles "${sweeps[@]}"
    stage "Rust tests" count_nextest cargo nextest run --locked --no-fail-fast -E "not (${others# | })"
else
    mapfile -t others < <(printf '%s\n' tests/*.rs tests/*/main.rs | sed -E 's,^tests/,,; s,(/main)?\.rs$,,' |
        grep -vxF "$(printf '%s\n' crash roles "${sweeps[@]}")" | sed 's/^/--test=/')
    stage "Rust tests" count_cargo cargo test --locked --lib "${others[@]}" --no-fail-fast
fi
stage sweeps count_cargo bash -c 'run_sweeps "$@"' run_sweeps "${sweeps[@]/#/--test=}"
stage "doc tests" count_doc_tests cargo test --locked --doc
stage "tool tests" count_cargo cargo test --locked --package image-cachectl --no-fail-fast
if [ -n "${IMAGE_CACHE_SCENARIO_C:-}" ]; then
    stage "C tests" count_ctest bash -c run_ctest
else
    skip "C tests" "they could not be built"
fi
stage "source tree" one bash -c same_sources

print_table
reasons=$(sed -nE 's/^SKIPPED( .*\))?: /  /p' "$build/Testing/Temporary/LastTest.log" 2>/dev/null | sort -u)
[ -n "$reasons" ] && printf '\nSkipped C tests, because:\n%s\n' "$reasons"
printf '\nSwept, in this run (make test-crash sweeps longer):\n'
grep -o 'swept: .*' "$logs/sweeps.log" | sed 's/^swept: /  /'
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
