#!/usr/bin/env bash
# The ABI check: the header's ABI equals the baseline in tests/abi/image_cache.abi.
#
#   abi.sh compare        fails and prints the difference if the header's ABI differs from the baseline
#   abi.sh write          rewrites the baseline; refuses a break, unless the soname's number has changed
#   abi.sh broken EDIT    the header after a sed script must be a break, and the difference must name the change
#   abi.sh added EDIT     it must be an addition
#   abi.sh sound EDIT     it must equal the baseline
#
# abidw describes a library that is built from the header alone: each function has an empty body, and each constant is
# an enumeration. The description is as stable as the header. That of the Rust library changes with each compiler and
# dependency. Other tests show that header and library agree: the header is generated from the sources
# (tests/header.rs), both sides assert the structs' layouts (src/ffi/, layout.c), and the library exports the header's
# functions (lists.sh).
set -u
here=$(cd "$(dirname "$0")" && pwd)
header=$here/../../include/image_cache.h
baseline=$here/image_cache.abi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

describe() { # HEADER: writes $directory/new.abi
    local bare
    cd "$directory" && cp "$1" image_cache.h || exit 1
    bare=$(sed -zE 's:/\*([^*]|\*+[^*/])*\*+/::g; s://[^\n]*::g' image_cache.h) # without its comments
    {
        echo '#include "image_cache.h"'
        grep -v IMAGE_CACHE_VERSION_ <<<"$bare" |
            sed -nE 's/^#define (IMAGE_CACHE_[A-Z0-9_]+) .+/enum value_of_\1 { is_\1 = \1 } constant_\1;/p'
        grep -v '^#' <<<"$bare" | tr '\n' ' ' | sed 's/[;{}]/&\n/g' |
            sed -nE '/typedef/!s/^(.*[ *]image_cache_[a-z0-9_]+\(.*\));$/\1 { __builtin_trap(); }/p'
    } >interface.c
    [ "$(grep -c __builtin_trap interface.c)" -ge 40 ] || fail "the header's functions were not found"
    number=$(sed -nE 's/^const ABI: u32 = ([0-9]+);$/\1/p' "$here/../../build.rs")
    [ -n "$number" ] || fail "the ABI's number was not found in build.rs"
    # The versions of the symbols, and a later one for the functions that an edit adds.
    sed '0,/^global:$/s//global: constant_*;/' "$here/../../image_cache.map" >versions
    functions=$(sed -nE 's/^.*[ *](image_cache_[a-z0-9_]+)\(.*__builtin_trap.*/\1/p' interface.c | grep -vwFf versions |
        sed 's/$/;/')
    [ -z "$functions" ] || echo "IMAGE_CACHE_LATER { global: $functions };" >>versions
    "${CC:-cc}" -std=c11 -w -gdwarf-4 -O0 -fPIC -shared -nostdlib "-Wl,-soname,libimage_cache.so.$number" \
        -Wl,--version-script=versions \
        -o interface.so interface.c || fail "it does not compile"
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture --no-write-default-sizes \
        --no-parameter-names --drop-undefined-syms --type-id-style hash --out-file new.abi interface.so ||
        fail "abidw failed"
}

compare() { # sets `kind` to same, added or broken, and `difference`
    difference=$(abidiff --no-architecture --harmless "$baseline" "$directory/new.abi") && kind=same && return
    kind=broken
    # New functions and constants are no break. Nor are fields at the end of a struct that the library allocates.
    abidiff --no-architecture --no-added-syms --suppressions "$here/appended.suppr" "$baseline" "$directory/new.abi" \
        >/dev/null && ! grep -qE 'data member (change|deletion)' <<<"$difference" && kind=added
}

must_be() { # KIND EDIT
    sed -f "$2" "$header" >"$directory/edited.h"
    ! cmp -s "$header" "$directory/edited.h" || fail "the edit changes nothing: fix it"
    describe "$directory/edited.h"
    compare
    echo "$difference"
    [ "$kind" = "$1" ] || fail "the check classifies it as $kind instead of $1"
    local shown
    shown=$(sed -n 's/^# Shown: //p' "$2")
    [ "$kind" = same ] || { [ -n "$shown" ] && grep -qF -e "$shown" <<<"$difference"; } ||
        fail "the difference does not show: $shown"
}

case ${1:-} in
    compare)
        describe "$header"
        compare
        [ "$kind" = same ] && echo "The ABI is the baseline's." && exit 0
        echo "$difference"
        [ "$kind" = added ] && fail "The ABI has additions and no break: \`make abi\` adds them to the baseline."
        fail "This breaks compiled programs. See docs/abi.md."
        ;;
    write)
        describe "$header"
        if [ -e "$baseline" ]; then
            compare
            echo "$difference"
            [ "$kind" != broken ] || ! grep -qF "soname='libimage_cache.so.$number'" "$baseline" ||
                fail "This is a break: give the soname a new number in build.rs first."
        fi
        cp "$directory/new.abi" "$baseline"
        ;;
    broken) must_be broken "$2" ;;
    added) must_be added "$2" ;;
    sound) must_be same "$2" ;;
    *) fail "usage: abi.sh compare | write | broken EDIT | added EDIT | sound EDIT" ;;
esac
