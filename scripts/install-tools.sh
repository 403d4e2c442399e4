#!/usr/bin/env bash
# install-tools.sh TOOL...
#
# Installs the named tools that are missing, and prints their names and purposes. It uses apt-get as root, or with a sudo
# that needs no password. Otherwise it prints the command to run, and fails.
set -u
PATH="$PATH:/usr/sbin:/sbin" # users other than root lack these, where mkfs.ext4 is

describe() { # TOOL: sets `package` and `reason`
    package=$1
    case $1 in
        cmake) reason="builds and installs the library for C" ;;
        qemu-img) package=qemu-utils reason="creates the demo's disk image, and checks the cached file" ;;
        xorriso) reason="creates ISO images for tests" ;;
        mkfs.ext4) package=e2fsprogs reason="creates file systems for the demo's disk image and for tests" ;;
        mkfs.btrfs) package=btrfs-progs reason="creates file systems with quotas, subvolumes and shared blocks for tests" ;;
        strace) reason="counts system calls in tests, and stops and delays processes at one" ;;
        mkfs.xfs) package=xfsprogs reason="creates file systems for tests" ;;
        g++) reason="compiles the header as C++" ;;
        clang) reason="compiles the header and the C code with a second compiler" ;;
        clang-runtime) package=libclang-rt-dev reason="has the runtimes of clang's sanitizers and fuzzer" ;;
        valgrind) reason="finds memory errors and leaks in the C tests, and counts instructions" ;;
        curl-config) package=libcurl4-openssl-dev reason="has libcurl, for the example that downloads images" ;;
        nbdkit) reason="serves an image over NBD in a test of the example that is a plugin" ;;
        nbdkit-plugin.h) package=nbdkit-plugin-dev reason="is for the example that is an nbdkit plugin" ;;
        nbdcopy) package=libnbd-bin reason="reads that plugin's image over NBD in a test" ;;
        qemu-io) package=qemu-utils reason="reads a part of that plugin's image in a test" ;;
        abidiff) package=abigail-tools reason="compares the header's ABI with the baseline" ;;
        pkg-config) reason="finds the installed library for the C programs of the tests" ;;
        sqlite3.h) package=libsqlite3-dev reason="is for a test program with its own SQLite beside the library's" ;;
        go) package=golang-go reason="builds the Go program that uses the installed library" ;;
        go-staticcheck) reason="finds mistakes in the Go code" ;;
        rsync) reason="copies caches in tests" ;;
        mandoc) reason="checks the manual pages" ;;
        zsh | fish) reason="reads the completions of image-cachectl in a test" ;;
        systemd-tmpfiles) package=systemd reason="ages files out of a cache in tests" ;;
        debugfs) package=e2fsprogs reason="damages file systems in tests" ;;
        btrfs) package=btrfs-progs reason="creates file systems and snapshots for tests" ;;
        mkfs.ntfs) package=ntfs-3g reason="creates and mounts file systems with times of 100 ns for tests" ;;
        mkfs.exfat) package=exfatprogs reason="creates file systems with times of 10 ms for tests" ;;
        mount.exfat-fuse) package=exfat-fuse reason="mounts file systems with times of 10 ms for tests" ;;
        mkfs.vfat) package=dosfstools reason="creates file systems with times of 2 s for tests" ;;
        mkdocs) reason="renders the documents with a search field" ;;
        shellcheck) reason="checks the shell scripts" ;;
        codespell) reason="finds misspelled words" ;;
        clang-format) reason="formats the C code" ;;
        traffic_server) package=trafficserver reason="shares one fetch between many clients, for a comparison in the benchmark" ;;
        varnishd) package=varnish reason="shares one fetch between many clients, for a comparison in the benchmark" ;;
        nginx) reason="shares one fetch between many clients, for a comparison in the benchmark" ;;
        bindfs) reason="mounts a FUSE file system with a chosen name in tests" ;;
        promtool) package=prometheus reason="checks the metrics, and runs the dashboard's queries in tests" ;;
        prometheus_client) package=python3-prometheus-client reason="parses OpenMetrics in tests" ;;
        systemd-analyze) package=systemd reason="checks the units and how they are sandboxed" ;;
        sqlite3) reason="queries Glance's database in tests against it" ;;
        postgres) package=postgresql reason="has Glance's database in tests against it" ;;
        openssl.h) package=libssl-dev reason="is for cargo-c, which the tests of packages use" ;;
        dpkg-buildpackage) package=dpkg-dev reason="builds the Debian packages" ;;
        dh) package=debhelper reason="builds the Debian packages" ;;
        lintian) reason="checks the Debian packages" ;;
        debootstrap) reason="makes a fresh Debian system, in which the packages are tried" ;;
        jq) reason="reads the list of components in the release" ;;
        xz) package=xz-utils reason="compresses the release" ;;
        python3) reason="acts as Glance in some tests, and calls the library in others" ;;
        python3-venv) reason="installs Python packages for tests below build/: ours, and Glance" ;;
        python3-cffi) reason="loads the library in the Python package" ;;
        *) echo "install-tools: unknown tool: $1" >&2 && exit 2 ;;
    esac
}

is_installed() { # TOOL: a command, a C header, or a Python module
    case $1 in
        openssl.h) echo "#include <openssl/ssl.h>" | cc -E -x c - >/dev/null 2>&1 ;;
        *.h) echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1 ;;
        # Debian's module is for Debian's Python, which may not be the first one of the path.
        prometheus_client) /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null ;;
        postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
        python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
        clang-runtime)
            echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
                clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null
            ;;
        # Where python3 is not the system's, the tests install cffi with pip.
        python3-cffi) python3 -c 'import cffi' 2>/dev/null || /usr/bin/python3 -c 'import cffi' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

packages=()
services=()
for tool in "$@"; do
    describe "$tool"
    is_installed "$tool" && continue
    case $tool in traffic_server | varnishd | nginx | promtool | postgres) services+=("$package") ;; esac
    printf '%-13s is missing: it %s (Debian package %s)\n' "$tool" "$reason" "$package"
    packages+=("$package")
done
[ ${#packages[@]} -eq 0 ] && exit 0

install=(apt-get install -y --no-install-recommends "${packages[@]}")
if ! command -v apt-get >/dev/null; then
    echo "apt-get is missing. Install ${packages[*]}, or your system's packages for them."
    exit 1
elif [ "$(id -u)" -eq 0 ]; then
    may=()
elif sudo -n true 2>/dev/null; then
    may=(sudo -n)
else
    echo "No permission to install packages. To install them: sudo ${install[*]}"
    exit 1
fi

echo "Installing ${packages[*]} with apt-get."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# SYSTEMD_OFFLINE keeps systemctl from starting the services of the packages.
apt() { "${may[@]}" env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 "$@" </dev/null >>"$log" 2>&1; }
# The first try fails if the package lists are missing or old.
if ! apt "${install[@]}" && ! { apt apt-get update && apt "${install[@]}"; }; then
    tail -n 20 "$log"
    echo "apt-get failed. The command was: ${may[*]} ${install[*]}"
    exit 1
fi
for tool in "$@"; do
    is_installed "$tool" || { echo "$tool is still missing after the installation." && exit 1; }
done
if [ ${#services[@]} -gt 0 ]; then
    echo "Their services were not started. To keep the next boot from starting them: systemctl disable ${services[*]}"
fi
