#!/usr/bin/env bash
# install-tools.sh TOOL...
#
# Installs what is missing of the named tools, and says what and why. It uses apt-get when it may, that is, as root or
# where sudo asks for no password. Otherwise it prints the command that would do it, and fails.
set -u
PATH="$PATH:/usr/sbin:/sbin" # where mkfs.ext4 is, for everybody but root

describe() { # TOOL: sets `package` and `reason`
    package=$1
    case $1 in
        cmake) reason="builds and installs the library for C" ;;
        qemu-img) package=qemu-utils reason="makes the demo's disk image, and checks it once it is cached" ;;
        mkfs.ext4) package=e2fsprogs reason="makes the file system in the demo's disk image, and those that tests cut off" ;;
        mkfs.xfs) package=xfsprogs reason="makes file systems that tests cut off" ;;
        g++) reason="compiles the header as C++" ;;
        clang) reason="compiles the header and the C code with a second compiler" ;;
        clang-runtime) package=libclang-rt-dev reason="brings the runtimes of clang's sanitizers and fuzzer" ;;
        valgrind) reason="looks for memory errors and leaks in the C tests, and counts instructions" ;;
        curl-config) package=libcurl4-openssl-dev reason="brings libcurl, with which an example downloads images" ;;
        abidiff) package=abigail-tools reason="compares the header's ABI with the one that was promised" ;;
        pkg-config) reason="finds the installed library for C programs that test it" ;;
        sqlite3.h) package=libsqlite3-dev reason="is for a test program that has an SQLite of its own beside the library" ;;
        go) package=golang-go reason="builds the Go program that uses the installed library" ;;
        python3) reason="plays Glance in some tests, and uses the library in others" ;;
        *) echo "install-tools: $1 is not in my list" >&2 && exit 2 ;;
    esac
}

is_there() { # TOOL: a command, or a header of C
    case $1 in
        *.h) echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1 ;;
        clang-runtime)
            echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
                clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null
            ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

packages=()
for tool in "$@"; do
    describe "$tool"
    is_there "$tool" && continue
    printf '%-13s is missing: it %s (Debian package %s)\n' "$tool" "$reason" "$package"
    packages+=("$package")
done
[ ${#packages[@]} -eq 0 ] && exit 0

install=(apt-get install -y --no-install-recommends "${packages[@]}")
if ! command -v apt-get >/dev/null; then
    echo "There is no apt-get here: please install ${packages[*]}, or what your system calls them."
    exit 1
elif [ "$(id -u)" -eq 0 ]; then
    may=()
elif sudo -n true 2>/dev/null; then
    may=(sudo -n)
else
    echo "I may not install packages here. This would: sudo ${install[*]}"
    exit 1
fi

echo "Installing ${packages[*]}, with apt-get."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${may[@]}" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null >>"$log" 2>&1; }
# The first try fails where the lists of packages are missing or old.
if ! apt "${install[@]}" && ! { apt apt-get update && apt "${install[@]}"; }; then
    tail -n 20 "$log"
    echo "That did not work. The command was: ${may[*]} ${install[*]}"
    exit 1
fi
for tool in "$@"; do
    is_there "$tool" || { echo "$tool is still missing after that." && exit 1; }
done
