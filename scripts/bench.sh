#!/usr/bin/env bash
# bench.sh OPTION...
#
# Builds and runs the benchmark (`bench.sh --help` has its options). It creates its caches in build/bench and removes them;
# the picture of the growth curves and the figures stay there. A missed target depends on the machine, so the exit code is 0
# even then. The script first checks the benchmark's code, since `make test` does not build it.
set -eu
here=$PWD
cd "$(dirname "$0")/../bench"
build=$(cd .. && pwd)/build/bench
mkdir -p "$build"
export CARGO_TARGET_DIR=$build/cargo

cargo fmt --check || echo "bench/ is not formatted: run cargo fmt there."
cargo build --locked --release
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --quiet --locked --release --all-targets -- -D warnings || echo "bench/ has clippy warnings."
fi
cargo test --quiet --locked --release >"$build/test.log" 2>&1 || { cat "$build/test.log" && exit 1; }

case " $* " in
    *" --peers "*) ../scripts/install-tools.sh traffic_server varnishd nginx || echo "The missing ones are skipped." ;;
esac

# The caches of a full run are millions of files. They are removed even if the benchmark fails or is interrupted.
run=$(mktemp -d "$build/run-XXXXXX")
trap 'rm -rf "$run"' EXIT
trap 'exit 130' INT TERM
cd "$here"
"$CARGO_TARGET_DIR/release/image-cache-bench" --directory "$run" --environment "$build/python" \
    --picture "$build/growth.svg" --json "$build/figures.json" "$@"
