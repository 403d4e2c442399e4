#!/usr/bin/env bash
# types.sh DIRECTORY: mypy --strict accepts the package, and the examples that use it. See environment.sh for DIRECTORY.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
interpreter=$("$here/environment.sh" "$1" cffi mypy types-cffi) || { echo "$interpreter" && exit 77; }
export MYPYPATH=$root/python/src
mypy() { "$interpreter" -m mypy --strict --cache-dir "$1/mypy" "${@:2}"; }

mypy "$1" --config-file "$root/python/pyproject.toml" "$root/python/src/image_cache" || exit 1
for example in "$root"/examples/python/*.py; do
    mypy "$1" "$example" || exit 1
done

# A wrong call is reported: the types are there, and are not all Any.
wrong=$1/wrong_call.py
echo 'import image_cache; image_cache.Cache("x", max_size="1").is_cached(1).upper()' >"$wrong"
errors=$(mypy "$1" "$wrong" | grep -c ': error: ')
[ "$errors" -eq 3 ] || { echo "mypy reports $errors of 3 errors" && exit 1; }
