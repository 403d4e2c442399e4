#!/usr/bin/env bash
# Tests take-over, hand-back and use side by side against the real Glance, which pip installs into build/glance/venv.
#
#     tests/glance/run.sh [ARGUMENT OF PYTEST...]
#
# Each test has a line "passed: ...", "FAILED: ..." or "SKIPPED: ..."; the exit code is 0 if none has failed. SECONDS_TOGETHER=30
# is how long both caches work on one directory. Without Python's venv, pip or the network, all of it is skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$PWD/build/glance
venv=$build/venv
mkdir -p "$build"

if ! scripts/install-tools.sh python3 python3-venv sqlite3; then
    echo "SKIPPED: tests against Glance: they need Python with venv, and sqlite3"
    exit 0
fi
# Without it, some tests are skipped.
scripts/install-tools.sh postgres
stamp=$venv/requirements.txt
if ! cmp -s tests/glance/requirements.txt "$stamp"; then
    echo "Installing Glance into $venv."
    install() {
        python3 -m venv "$venv" && "$venv/bin/pip" install --disable-pip-version-check -r tests/glance/requirements.txt
    }
    if ! install >"$build/pip.log" 2>&1; then
        tail -n 5 "$build/pip.log"
        echo "SKIPPED: tests against Glance: pip cannot install tests/glance/requirements.txt"
        exit 0
    fi
    cp tests/glance/requirements.txt "$stamp"
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
cargo build -p image-cache -p image-cachectl || exit 1

export IMAGE_CACHE_LIBRARY=$CARGO_TARGET_DIR/debug/libimage_cache.so IMAGE_CACHECTL=$CARGO_TARGET_DIR/debug/image-cachectl
export GLANCE_WORKSPACE=$build/work
# The source tree stays as it is.
export PYTHONDONTWRITEBYTECODE=1
rm -rf "$GLANCE_WORKSPACE"
mkdir -p "$GLANCE_WORKSPACE"
exec "$venv/bin/python" -m pytest -p no:cacheprovider -c /dev/null --rootdir="$PWD/tests/glance" "$PWD/tests/glance" -q "$@"
