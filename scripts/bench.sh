#!/usr/bin/env bash
# bench.sh OPTION...
#
# Builds and runs the benchmark (`bench.sh --help` has its options). The caches are made in build/bench, and removed again;
# the picture of the growth curves and all figures are left there. What depends on the machine is not a test: the exit code
# is 0, whatever is met. Before it runs, the benchmark's own code is checked, since `make test` does not build it.
set -eu
here=$PWD
cd "$(dirname "$0")/../bench"
build=$(cd .. && pwd)/build/bench
mkdir -p "$build"
export CARGO_TARGET_DIR=$build/cargo

cargo fmt --check || echo "bench/ is not formatted: cargo fmt, there."
cargo build --locked --release
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --quiet --locked --release --all-targets -- -D warnings || echo "clippy has something against bench/."
fi
cargo test --quiet --locked --release >"$build/test.log" 2>&1 || { cat "$build/test.log" && exit 1; }

# Whatever ends the benchmark, its caches go: a full run has millions of files.
run=$(mktemp -d "$build/run-XXXXXX")
trap 'rm -rf "$run"' EXIT
trap 'exit 130' INT TERM
cd "$here"
"$CARGO_TARGET_DIR/release/image-cache-bench" --directory "$run" --environment "$build/python" \
    --picture "$build/growth.svg" --json "$build/figures.json" "$@"
