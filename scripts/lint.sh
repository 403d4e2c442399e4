#!/usr/bin/env bash
# Checks what has no compiler: shell scripts (shellcheck), spelling (codespell), the format of C and C++ (clang-format) and of
# Go (gofmt), and the lock files of the tools (cargo). Without a tool its check is skipped; without all of them, the exit code is 77.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0 run=0

files() { # PATTERN...: files of the tree, also where it is no git repository
    local pattern names=()
    for pattern in "$@"; do names+=(-o -name "$pattern"); done
    find . \( -path ./.git -o -path ./build -o -path ./target -o -path ./bench/target -o -name corpus \) -prune -o \
        -type f \( "${names[@]:1}" \) -print0
}

check() { # TOOL COMMAND...
    local tool=$1
    shift
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is not installed: skipped"
        return
    fi
    run=1
    if "$@"; then
        echo "$tool: passed"
    else
        failed=1
    fi
}

# SC2317 takes functions that are called by name for unreachable.
shell_scripts() { files '*.sh' run | xargs -0 shellcheck --exclude=SC2317; }

# "crate" is Rust's, "bu" groff's, and WOTH is in libc.
spelling() {
    files '*.rs' '*.c' '*.h' '*.cpp' '*.py' '*.go' '*.js' '*.sh' '*.md' '*.toml' '*.yml' '*.cmake' '*.txt' '*.scenario' Makefile |
        xargs -0 codespell -L crate,atleast,woth,bu,conectix
}

# The header is generated. The style needs clang-format 14.
c_format() { files '*.[ch]' '*.cpp' | grep -zv '^./include/' | xargs -0 clang-format --dry-run -Werror; }

go_format() {
    local found
    found=$(files '*.go' | xargs -0 gofmt -l) && [ -z "$found" ] && return
    echo "gofmt would change: $found"
    return 1
}

# A lock file that does not fit its manifest fails. Crates that cannot be downloaded are no failure of the lock file.
lock_files() {
    local directory output code=0
    for directory in . bench tools/manual; do
        output=$(cargo metadata --locked --format-version 1 --manifest-path "$directory/Cargo.toml" 2>&1 >/dev/null) && continue
        echo "$directory/Cargo.lock: $output"
        ! grep -q 'lock file' <<<"$output" || code=1
    done
    return "$code"
}

check shellcheck shell_scripts
check codespell spelling
check clang-format c_format
check gofmt go_format
check cargo lock_files
[ "$run" -eq 1 ] || exit 77
exit "$failed"
