#!/usr/bin/env bash
# environment.sh DIRECTORY PACKAGE...
#
# Prints the path of an interpreter that has these Python packages: python3, the system's python3, or that of a virtual
# environment in DIRECTORY, into which pip installs them. Exit code 77 and a line "SKIPPED: why": there is none.
set -u
directory=$1
shift

has_packages() { # INTERPRETER PACKAGE...
    local interpreter=$1
    shift
    command -v "$interpreter" >/dev/null || return
    "$interpreter" -B -c 'import importlib.metadata as m, sys; [m.version(name) for name in sys.argv[1:]]' "$@" 2>/dev/null
}

command -v python3 >/dev/null || { echo "SKIPPED: python3 is not installed" && exit 77; }
for interpreter in python3 /usr/bin/python3; do
    has_packages "$interpreter" "$@" && command -v "$interpreter" && exit
done

# One test at a time installs. The others find the result.
mkdir -p "$directory"
exec 9>"$directory/lock"
flock 9
interpreter=$directory/environment/bin/python
if ! has_packages "$interpreter" "$@"; then
    {
        [ -x "$interpreter" ] || python3 -m venv "$directory/environment"
        timeout 120 "$interpreter" -m pip install --disable-pip-version-check --retries 1 "$@"
    } >"$directory/log" 2>&1
fi
if ! has_packages "$interpreter" "$@"; then
    tail -n 5 "$directory/log" >&2
    echo "SKIPPED: the Python packages $* are missing, and pip cannot install them"
    exit 77
fi
echo "$interpreter"
