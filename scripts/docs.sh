#!/usr/bin/env bash
# Renders the documents, and the reference of the C functions, to build/docs, with a search field. Links stay relative, so the
# source directory has the layout of the repository.
set -eu
cd "$(dirname "$0")/.."
scripts/install-tools.sh mkdocs
source=build/docs-source
rm -rf "$source" build/docs
mkdir -p "$source"
cp --parents -- *.md LICENSE docs/*.md examples/*.md examples/*/* examples-c/*.[ch] go/README.md include/image_cache.h "$source"
# The reference is made from the header, as the manual pages are.
CARGO_TARGET_DIR=build/manual/cargo cargo run --quiet --locked --manifest-path tools/manual/Cargo.toml -- include/image_cache.h build/manual
cp build/manual/reference.md "$source/docs/reference.md"
mkdocs build --quiet --strict
echo "build/docs/index.html: $(find build/docs -name '*.html' | wc -l) pages"
