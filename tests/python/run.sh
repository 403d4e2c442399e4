#!/usr/bin/env bash
# run.sh DIRECTORY LIBRARY PACKAGES PROGRAM ARGUMENTS...
#
# Runs a Python program over the package in python/src and a library, with an interpreter that has PACKAGES, which blanks
# separate. See environment.sh for DIRECTORY.
set -u
here=$(cd "$(dirname "$0")" && pwd)
directory=$1 library=$2 packages=$3
shift 3
# shellcheck disable=SC2086
interpreter=$("$here/environment.sh" "$directory" $packages) || { echo "$interpreter" && exit 77; }
export IMAGE_CACHE_LIBRARY=$library PYTHONPATH=$here/../../python/src PYTHONDONTWRITEBYTECODE=1
exec "$interpreter" "$@"
