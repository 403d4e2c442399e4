#!/usr/bin/env bash
# The ABI gate: what the header promises is what tests/abi/image_cache.abi says it promised.
#
#   abi.sh compare        fails, with the difference, when the header's ABI is not the baseline's
#   abi.sh write          writes the baseline anew; refuses a break, unless the soname's number has changed
#   abi.sh broken EDIT    the header after a sed script must fail as a break, and the difference must name what it changed
#   abi.sh added EDIT     it must fail as an addition
#   abi.sh sound EDIT     it must pass
#
# abidw describes a library made of the header alone: each of its functions, with an empty body, and each of its constants
# as an enumeration of its own. That is as stable as the header, where the description of a Rust library changes with every
# compiler and dependency. What ties the two together are other tests: the header is generated from the sources
# (tests/header.rs), the structs' layouts are asserted on both sides (src/ffi/, layout.c), and the library exports the
# functions of the header (lists.sh).
set -u
here=$(cd "$(dirname "$0")" && pwd)
header=$here/../../include/image_cache.h
baseline=$here/image_cache.abi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

describe() { # HEADER: writes $folder/new.abi
    local bare
    cd "$folder" && cp "$1" image_cache.h || exit 1
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
    "${CC:-cc}" -std=c11 -w -gdwarf-4 -O0 -fPIC -shared -nostdlib "-Wl,-soname,libimage_cache.so.$number" \
        -o interface.so interface.c || fail "it does not compile"
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture --no-write-default-sizes \
        --no-parameter-names --drop-undefined-syms --type-id-style hash --out-file new.abi interface.so ||
        fail "abidw failed"
}

compare() { # sets `kind` to same, added or broken, and `difference`
    difference=$(abidiff --no-architecture --harmless "$baseline" "$folder/new.abi") && kind=same && return
    kind=broken
    # Functions and constants that are new, and fields at the end of what the library allocates, break nobody.
    abidiff --no-architecture --no-added-syms --suppressions "$here/appended.suppr" "$baseline" "$folder/new.abi" \
        >/dev/null && ! grep -qE 'data member (change|deletion)' <<<"$difference" && kind=added
}

must_be() { # KIND EDIT
    sed -f "$2" "$header" >"$folder/edited.h"
    ! cmp -s "$header" "$folder/edited.h" || fail "the edit changes nothing: put it right"
    describe "$folder/edited.h"
    compare
    echo "$difference"
    [ "$kind" = "$1" ] || fail "the gate calls it $kind, and should call it $1"
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
        [ "$kind" = added ] && fail "The ABI has grown, and breaks nobody: \`make abi\` takes it into the baseline."
        fail "This breaks programs that are compiled already. See \"What may change when\" in README.md."
        ;;
    write)
        describe "$header"
        if [ -e "$baseline" ]; then
            compare
            echo "$difference"
            [ "$kind" != broken ] || ! grep -qF "soname='libimage_cache.so.$number'" "$baseline" ||
                fail "That is a break: first the soname needs a new number, in build.rs."
        fi
        cp "$folder/new.abi" "$baseline"
        ;;
    broken) must_be broken "$2" ;;
    added) must_be added "$2" ;;
    sound) must_be same "$2" ;;
    *) fail "usage: abi.sh compare | write | broken EDIT | added EDIT | sound EDIT" ;;
esac
