#!/usr/bin/env bash
# dist.sh [DIRECTORY]
#
# Makes the release in DIRECTORY (build/dist): the sources of the last commit with all crates that a build on Linux needs, so that
# it builds without a network; the list of what the library contains (SBOM, CycloneDX), inside and beside; and their sha256 sums.
# The same commit gives the same bytes.
set -eu
cd "$(dirname "$0")/.."
directory=${1:-$PWD/build/dist}
export PATH=$PWD/build/tools/bin:$PATH CARGO_TERM_COLOR=never LC_ALL=C
scripts/install-tools.sh jq xz
scripts/cargo-tools.sh cargo-vendor-filterer cargo-cyclonedx

version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
name=image-cache-$version
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
[ -z "$(git status --porcelain)" ] || echo "Note: the release is the last commit. What is not committed is not in it."
mkdir -p "$directory"
rm -rf "${directory:?}/$name" "${directory:?}/$name."* "$directory/SHA256SUMS"
git archive --prefix="$name/" HEAD | tar -x -C "$directory"

# Crates for other systems become empty ones: cargo wants each of Cargo.lock. So do the files that only their tests need.
echo "Vendoring the crates"
log=$directory/vendor.log
platforms=()
for platform in '*-unknown-linux-gnu' '*-unknown-linux-musl' '*-unknown-linux-gnueabihf'; do
    platforms+=(--platform "$platform")
done
(
    cd "$directory/$name"
    cargo vendor-filterer "${platforms[@]}" --exclude-crate-path 'vcpkg#test-data' \
        --exclude-crate-path 'libsqlite3-sys#sqlcipher' vendor
) >"$log" 2>&1 || { tail -n 20 "$log" && exit 1; }

echo "Listing the components"
(
    cd "$directory/$name"
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --no-build-deps \
        --override-filename sbom
) >>"$log" 2>&1 || { tail -n 20 "$log" && exit 1; }
# SQLite is compiled in, and is what scanners look for. cargo knows its crate only.
sqlite=$(sed -nE 's/^#define SQLITE_VERSION +"(.*)"/\1/p' "$directory/$name/vendor/libsqlite3-sys/sqlite3/sqlite3.c")
[ -n "$sqlite" ] || { echo "the version of the bundled SQLite was not found" && exit 1; }
sbom=$directory/$name.cdx.json
jq --arg version "$sqlite" '
    (.components[] | select(.name == "libsqlite3-sys")) |= (.components = [{
        type: "library", name: "sqlite", version: $version, "bom-ref": ("sqlite@" + $version),
        description: "compiled into the library, unless the feature system-sqlite is used",
        licenses: [{ license: { name: "Public Domain" } }],
        cpe: ("cpe:2.3:a:sqlite:sqlite:" + $version + ":*:*:*:*:*:*:*"),
        purl: ("pkg:generic/sqlite@" + $version)
    }])' "$directory/$name/sbom.json" | sed "s,$directory/$name,/$name,g" >"$sbom"
find "$directory/$name" -name sbom.json -not -path '*/vendor/*' -delete
cp "$sbom" "$directory/$name/sbom.cdx.json"

mkdir "$directory/$name/.cargo"
cat >"$directory/$name/.cargo/config.toml" <<'END'
# This release has the crates, so cargo downloads none.
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
END

echo "Compressing"
tar --create --directory "$directory" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | xz -6 --threads=1 >"$directory/$name.tar.xz"
rm -rf "${directory:?}/$name" "$log"
(cd "$directory" && sha256sum "$name.tar.xz" "$name.cdx.json" >SHA256SUMS && ls -l "$name"* && cat SHA256SUMS)
