#!/usr/bin/env bash
# The release that `make dist` makes: two runs give the same bytes, the sums are right, the list of components is complete, and
# the library builds from it without a network and without a crate downloaded before.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/packages/common.sh
git rev-parse --git-dir >/dev/null 2>&1 || skip_all "the release is made of a git repository, which this tree is not"
scripts/cargo-tools.sh cargo-vendor-filterer cargo-cyclonedx || skip_all "cargo's tools for releases cannot be installed"

work=$root/build/test-more/archive
rm -rf "$work"
mkdir -p "$work"
name=image-cache-$(version_of_crate)
sbom=$work/one/$name.cdx.json

check "make dist makes the release" scripts/dist.sh "$work/one" || exit 1
check "it can be made again" scripts/dist.sh "$work/two"
check "the same commit gives the same bytes" diff -r "$work/one" "$work/two"
sums() { (cd "$work/one" && sha256sum --check SHA256SUMS); }
check "the sums are those of the files" sums
tar -xJf "$work/one/$name.tar.xz" -C "$work" || exit 1
tree=$work/$name

# ---- The list of components -----------------------------------------------------------------------------------------

is_cyclonedx() { jq --exit-status '.bomFormat == "CycloneDX" and .metadata.component.name == "image-cache"' "$sbom"; }
check "the list is CycloneDX, of this library" is_cyclonedx
components() {
    (cd "$tree" && cargo tree --locked --edges normal --prefix none --target x86_64-unknown-linux-gnu --format '{p}') |
        awk '{ print $1 " " substr($2, 2) }' | grep -v '^image-cache ' | sort -u >"$work/expected"
    [ "$(wc -l <"$work/expected")" -ge 20 ] || return 1
    jq -r '.components[] | .name + " " + .version' "$sbom" | sort -u | diff "$work/expected" -
}
check "it has each crate that is compiled in" components
bundled() {
    printf '#include <sqlite3.h>\nSQLITE_VERSION\n' |
        cc -E -P -I "$tree/vendor/libsqlite3-sys/sqlite3" -x c - | tail -n 1 | tr -d '" ' >"$work/sqlite"
    jq --exit-status --rawfile version "$work/sqlite" \
        '[.components[].components // [] | .[] | select(.name == "sqlite") | .version] == [$version | rtrimstr("\n")]' "$sbom"
}
check "it has the bundled SQLite, with its version" bundled
check "the list inside is the one beside" cmp "$sbom" "$tree/sbom.cdx.json"

# ---- Without a network ----------------------------------------------------------------------------------------------

offline=(env "CARGO_HOME=$work/empty")
if unshare --net true 2>/dev/null; then
    offline=(unshare --net "${offline[@]}")
else
    echo "SKIPPED: only root can take the network away: the build without one has CARGO_NET_OFFLINE"
    offline+=(CARGO_NET_OFFLINE=true)
fi
build() {
    if ! "${offline[@]}" cmake -S "$tree" -B "$work/build" -DIMAGE_CACHE_TESTS=OFF -DIMAGE_CACHE_TOOLS=ON >"$work/cmake.log" ||
        ! "${offline[@]}" cmake --build "$work/build" >>"$work/cmake.log" 2>&1; then
        tail -n 40 "$work/cmake.log"
        return 1
    fi
}
check "CMake builds library, tool, manual and examples without a network" build
check "the library runs" "$work/build/examples-c/quickstart" "$tree/Cargo.lock" "$work/cache"
crates_of_tests() {
    cd "$tree" && "${offline[@]}" cargo check --quiet --locked --offline --test header --target-dir "$work/check"
}
check "the crates of the tests are there as well" crates_of_tests
rm -rf "$work/build" "$work/check" "$tree"
finish
