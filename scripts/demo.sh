#!/usr/bin/env bash
# The demo: creates a disk image of a virtual machine, runs examples-c/quickstart on it with each driver, and checks the
# cached file with qemu-img. Then two processes share one download. KEEP=1 keeps the demo's directory.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"
build=$PWD/build/demo
log=$PWD/build/demo.log

command -v cargo >/dev/null || { echo "Rust is missing: cargo builds the library." >&2 && exit 1; }
scripts/install-tools.sh cmake qemu-img mkfs.ext4
scripts/install-tools.sh curl-config || echo "Without libcurl, the demo shows no stream."

mkdir -p "$build"
work=$(mktemp -d "$PWD/build/demo-XXXXXX")
finish() {
    code=$?
    if [ -n "${KEEP:-}" ]; then
        echo "Kept: $work"
    else
        rm -rf "$work"
    fi
    [ $code -eq 0 ] || echo "The demo failed." >&2
}
trap finish EXIT

quietly() { # runs a command with its output in the log, and prints the log's end if it fails
    "$@" >>"$log" 2>&1 || { tail -n 60 "$log" && echo "(the whole log: $log)" && return 1; } >&2
}

: >"$log"
start=$SECONDS
echo "Building the library and the examples; the first time takes a minute or two."
quietly cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DIMAGE_CACHE_TESTS=OFF
quietly cmake --build "$build" --parallel "$(nproc)"
echo "Built in $((SECONDS - start)) s."

# The disk: a boot sector with a partition table, and a partition from 1 MiB on that holds ext4 with files.
boot_sector() {
    printf '\xcd\x18\xeb\xfe'     # code for a BIOS: report that this disk boots nothing, and stop
    head -c 442 /dev/zero         # the rest of the code
    printf '\x80\x20\x21\x00'     # first partition: active, its start as cylinder, head and sector,
    printf '\x83\xfe\xff\xff'     # type Linux, its end,
    printf '\x00\x08\x00\x00'     # from sector 2048,
    printf '\x00\xf8\x01\x00'     # 129024 sectors: 63 MiB
    head -c 48 /dev/zero          # three unused entries
    printf '\x55\xaa'
}
mkdir -p "$work/files/boot" "$work/files/etc" "$work/files/home"
cp -r examples-c include src "$work/files/home"
echo "image-cache-demo" >"$work/files/etc/hostname"
head -c 12582912 /dev/urandom >"$work/files/boot/initrd.img" # data that does not compress, like most of a real image
truncate -s 63M "$work/partition.raw"
quietly mkfs.ext4 -q -F -L demo -d "$work/files" "$work/partition.raw"
truncate -s 64M "$work/disk.raw"
boot_sector | dd of="$work/disk.raw" conv=notrunc status=none
dd if="$work/partition.raw" of="$work/disk.raw" bs=1M seek=1 conv=notrunc,sparse status=none
image=$work/demo.qcow2
quietly qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$image"
digest=$(sha256sum "$image" | cut -d ' ' -f 1)
echo "Created demo.qcow2: a disk of 64 MiB, partitioned, with an ext4 file system and $(find "$work/files" -type f | wc -l) files."
rm -rf "$work/files" "$work"/*.raw

cd "$work" # so that the example prints short paths
for driver in sqlite xattr; do
    printf '\n======== quickstart demo.qcow2 cache-%s %s ========\n\n' "$driver" "$driver"
    "$build/examples-c/quickstart" demo.qcow2 "cache-$driver" "$driver" --sha256 "$digest"
    printf '\nqemu-img on the cached file\n'
    printf '   %-10s %s\n' check "$(qemu-img check -f qcow2 "cache-$driver/demo.qcow2" | head -n 1)"
    printf '   %-10s %s\n' compare "$(qemu-img compare -f qcow2 -F qcow2 demo.qcow2 "cache-$driver/demo.qcow2")"
done
if [ -x "$build/examples-c/storm" ]; then
    printf '\n======== storm --readers 2 --deaths 0: a stream shares one download ========\n\n'
    TMPDIR=$work "$build/examples-c/storm" --readers 2 --deaths 0 --size 16 --rate 32
fi
printf '\nDone: both drivers cached the image, and the cached files equal it.\n'
