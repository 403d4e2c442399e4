#!/usr/bin/env bash
# cargo-tools.sh TOOL...
#
# Installs the named cargo commands that are missing, in a fixed version, to build/tools/bin. Put that directory in front of
# PATH to use them. It needs the network once, and some minutes for cargo-c.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/build/tools/bin:$PATH

for tool in "$@"; do
    case $tool in
        # Builds and installs a crate as a C library, as distributions do. This version needs Rust 1.91.
        cargo-c) command=cargo-cinstall crate=cargo-c@0.10.20+cargo-0.94.0 ;;
        # Writes the list of what a build contains.
        cargo-cyclonedx) command=$tool crate=$tool@0.5.9 ;;
        # Vendors the crates that one platform needs, a quarter of all.
        cargo-vendor-filterer) command=$tool crate=$tool@0.5.18 ;;
        *) echo "cargo-tools: unknown tool: $tool" >&2 && exit 2 ;;
    esac
    command -v "$command" >/dev/null && continue
    if [ "$tool" = cargo-c ]; then
        scripts/install-tools.sh pkg-config openssl.h || exit 1
    fi
    echo "Installing $crate to build/tools"
    mkdir -p build/tools
    log=build/tools/$tool.log
    # A target directory of its own, which is removed: nothing else shares these crates.
    if ! CARGO_TARGET_DIR=build/tools/target cargo install --quiet --locked --root build/tools "$crate" >"$log" 2>&1; then
        tail -n 20 "$log"
        echo "cargo install failed; the whole log: $log"
        exit 1
    fi
    rm -rf build/tools/target
done
