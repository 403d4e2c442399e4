#!/usr/bin/env bash
# The sweeps alone, in full: kills and faults at each system call, power cuts (CUTS, 1800 unless told otherwise), races for
# RACE_SECONDS seconds with each driver (60), random roles of streams for ROLES_SECONDS (as long as the races), 200 deaths of a
# process that fetches, the limit and the floor for LIMIT_SECONDS seconds each with each driver (300), and every kind of corruption. `make test` has all of them as well, each with a part of it. Each prints what
# it counted. Tests that cannot run here are ignored, counted so, and say why.
set -u
cd "$(dirname "$0")/.." || exit 1
export PATH="$PATH:/usr/sbin:/sbin" CARGO_TERM_COLOR=never
export IMAGE_CACHE_POWER_CUTS=${CUTS:-1800} IMAGE_CACHE_RACE_SECONDS=${RACE_SECONDS:-60} IMAGE_CACHE_CORRUPTION=all
export IMAGE_CACHE_CRASH=all IMAGE_CACHE_ROLES=all
export IMAGE_CACHE_LIMIT_SECONDS=${LIMIT_SECONDS:-300}
export IMAGE_CACHE_ROLES_SECONDS=${ROLES_SECONDS:-$IMAGE_CACHE_RACE_SECONDS} IMAGE_CACHE_ROLES_KILLS=200

scripts/install-tools.sh mkfs.ext4 mkfs.xfs || echo "The tests that need what is missing are ignored, and counted so."
cargo test --locked --no-fail-fast --test crash --test power --test races --test roles --test limit --test corruption
