#!/usr/bin/env bash
# The Debian packages: built by dpkg-buildpackage from the release, without a network; no error of lintian; installed in a fresh Debian
# system, where the consumers' programs are built and run by a user who is not root. It needs root, and some 200 MB of downloads.
#
# DEBIAN_SUITE=sid builds the packages in a fresh system of that suite with its Rust, and installs them there. Otherwise the Rust
# of this machine builds them for this machine's Debian.
# shellcheck disable=SC2016 # The programs in single quotes are for the shell in the fresh system.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
git rev-parse --git-dir >/dev/null 2>&1 || skip_all "the packages are built from a git repository, which this tree is not"
[ "$(id -u)" -eq 0 ] || skip_all "a fresh Debian system needs root"
# shellcheck source=/dev/null
. /etc/os-release
[ "$ID" = debian ] || skip_all "this system is not Debian"
scripts/install-tools.sh cmake dpkg-buildpackage dh lintian debootstrap || skip_all "Debian's tools cannot be installed"

work=$root/build/test-more/debian${DEBIAN_SUITE:+-$DEBIAN_SUITE}
suite=${DEBIAN_SUITE:-$VERSION_CODENAME}
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Identifier: Packages' |
    awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
[ -n "$mirror" ] || skip_all "apt knows no mirror of Debian"
rm -rf --one-file-system "$work"
mkdir -p "$work"
version=$(version_of_crate)

if ! scripts/dist.sh "$work/dist" >"$work/dist.log" 2>&1; then
    tail -n 5 "$work/dist.log"
    skip_all "the release, which the packages are built from, cannot be made"
fi
mkdir "$work/source"
cp "$work/dist/image-cache-$version.tar.xz" "$work/source/image-cache_$version.orig.tar.xz"
tar -xJf "$work/dist/image-cache-$version.tar.xz" -C "$work/source"
tree=$work/source/image-cache-$version

# ---- The fresh system -----------------------------------------------------------------------------------------------

system=$work/system
quietly() { # COMMAND...: its output is shown if it fails
    "$@" </dev/null >"$work/log" 2>&1 || { tail -n 30 "$work/log" && return 1; }
}
# In mounts of its own, which end with the command: cargo would otherwise read /proc as a part of the source tree.
in_system() {
    unshare --mount --propagation private sh -c 'system=$1; shift
        mount --rbind /dev "$system/dev" && mount -t proc proc "$system/proc" && exec chroot "$system" "$@"' in_system "$system" "$@"
}
inside() { in_system env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
install_inside() { quietly inside apt-get install -y --no-install-recommends "$@"; }
as_user() { inside setpriv --reuid=tester --regid=tester --init-groups env HOME=/home/tester sh -euc "cd /home/tester && $1"; }
fresh() {
    quietly debootstrap --variant=minbase "$suite" "$system" "$mirror" && quietly inside useradd --create-home tester
}
check "a fresh Debian $suite" fresh || exit 1

# ---- Building -------------------------------------------------------------------------------------------------------

build_here() { (cd "$tree" && quietly unshare --net dpkg-buildpackage --unsigned-source --unsigned-changes \
    --build-profiles=pkg.image-cache.own-rust); }
build_inside() {
    install_inside build-essential debhelper cmake cargo rustc || return
    cp -r "$work/source" "$system/build" &&
        quietly inside unshare --net sh -c "cd /build/image-cache-$version && dpkg-buildpackage -us -uc" &&
        find "$system/build" -maxdepth 1 -type f -exec mv -t "$work/source" {} +
}
# Without a patch: the tree is the release's.
if [ -n "${DEBIAN_SUITE:-}" ]; then
    check "dpkg-buildpackage in $suite, with its Rust, without a network" build_inside || exit 1
else
    check "dpkg-buildpackage, without a network" build_here || exit 1
fi
find "$work/source" -maxdepth 1 -name '*.deb' -size +0 -printf '%f %s bytes\n'
check_lintian() { lintian --allow-root --fail-on error --tag-display-limit 0 "$work"/source/*.changes; }
check "no error of lintian" check_lintian

# ---- Using ----------------------------------------------------------------------------------------------------------

cp "$work"/source/*.deb "$system/tmp"
packages() { (cd "$system" && find ./tmp -name "$1_*.deb" | cut -c 2-); }
check "image-cache-tools installs without the library" install_inside "$(packages image-cache-tools)"
runtime_only() { install_inside "$(packages libimage-cache0)" && inside dpkg -L libimage-cache0; }
check "libimage-cache0 installs alone" runtime_only
check "libimage-cache-dev installs" install_inside "$(packages libimage-cache-dev)"
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
in_place() { [ -e "$system/usr/lib/$multiarch/libimage_cache.so.0" ] && [ -e "$system/usr/include/image_cache.h" ]; }
check "the files are in Debian's places" in_place
check "the loader finds the library" inside sh -c "ldconfig -p | grep libimage_cache.so.0"
tool() { as_user "image-cachectl --version && image-cachectl --help >help && grep -q Usage help"; }
check "image-cachectl runs" tool
units() { inside sh -c 'getent passwd image-cache && ls /usr/lib/systemd/system/image-cache-prune.timer && ls -ld /var/lib/image-cache'; }
check "the user and the directory of the units exist" units

check "the consumers' compilers install" install_inside gcc g++ libc6-dev make cmake pkgconf python3 python3-cffi golang-go
mkdir "$system/home/tester/source"
cp -r debian tests examples python go "$system/home/tester/source/"
chroot "$system" chown -R tester: /home/tester
as_user 'cd source && debian/tests/consumers'
removed() { quietly inside apt-get purge -y libimage-cache0 libimage-cache-dev image-cache-tools && ! find "$system/usr" "$system/etc" -name '*image*cache*' | grep -v vmlinuz; }
check "purging the packages leaves no file" removed
rm -rf --one-file-system "$system" "$tree"
finish
