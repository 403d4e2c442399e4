#!/usr/bin/env bash
# The long crash tests, which `make test` has a small number of: IMAGE_CACHE_POWER_CUTS power cuts, 1800 unless told
# otherwise. Each sweep prints what it counted. Tests that cannot run here are ignored, counted so, and say why.
set -u
cd "$(dirname "$0")/.." || exit 1
export PATH="$PATH:/usr/sbin:/sbin" CARGO_TERM_COLOR=never
export IMAGE_CACHE_POWER_CUTS=${IMAGE_CACHE_POWER_CUTS:-1800}

scripts/install-tools.sh mkfs.ext4 mkfs.xfs || echo "The tests that need what is missing are ignored, and counted so."
cargo test --locked --test power
