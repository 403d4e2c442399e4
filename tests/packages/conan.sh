#!/usr/bin/env bash
# The Conan recipe: conan comes from PyPI into a virtual environment below build/. The package is made, as a debug build, and a C program
# is built with it and run.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
scripts/install-tools.sh cmake python3 || skip_all "cmake or python3 is not installed"
environment=$root/build/tools/conan
if [ ! -x "$environment/bin/conan" ]; then
    if ! python3 -m venv "$environment" || ! "$environment/bin/pip" install --quiet 'conan>=2.20,<3'; then
        skip_all "conan cannot be installed from PyPI"
    fi
fi
export CONAN_HOME=$root/build/test-more/conan PATH=$environment/bin:$PATH
rm -rf "$CONAN_HOME"
mkdir -p "$CONAN_HOME"
conan profile detect >"$CONAN_HOME/log" 2>&1 || { tail -n 20 "$CONAN_HOME/log" && exit 1; }
create() {
    conan create conan --settings build_type=Debug "$@" >"$CONAN_HOME/log" 2>&1 && tail -n 15 "$CONAN_HOME/log" && return
    tail -n 60 "$CONAN_HOME/log"
    return 1
}
check "conan create makes the shared library, and a program runs with it" create
rm -rf "$CONAN_HOME"
finish
