# shellcheck shell=bash
# What the tests of packages share. A test prints a line for each check, which scripts/test-more.sh counts.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH=$root/build/tools/bin:$PATH:/usr/sbin:/sbin LC_ALL=C CARGO_TERM_COLOR=never
unset DESTDIR LD_LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH CARGO_TARGET_DIR RUSTFLAGS CFLAGS
failures=0

check() { # WHAT COMMAND...: one check, whose output is shown
    local what=$1
    shift
    if "$@"; then
        echo "passed: $what"
    else
        echo "FAILED: $what"
        failures=$((failures + 1))
        return 1
    fi
}

skip_all() { # WHY: ends the test
    echo "SKIPPED: $1"
    exit 0
}

version_of_crate() { sed -nE 's/^version = "(.*)"/\1/p' "$root/Cargo.toml" | head -n 1; }

finish() { [ "$failures" -eq 0 ]; }
