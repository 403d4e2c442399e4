#!/usr/bin/env bash
# lists.sh NM LIBRARY
#
# Three lists are the same: the functions of the header, what the shared library exports, and functions.txt, the contract.
# The contract has the parameters' names as well, and the header has them in the same order: two of one type that change
# places are the same to a compiler. Then each list in turn gets a name too many and one too few, and each time that must
# be noticed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export LC_ALL=C

"$1" -D --defined-only "$2" >"$folder/symbols" || exit 1
awk '{ print ($2 == "T") ? $3 : $3 " (no function, but " $2 ")" }' "$folder/symbols" | sort >"$folder/exports"
bare=$(sed -zE 's:/\*([^*]|\*+[^*/])*\*+/::g; s:\n: :g' "$here/../../include/image_cache.h") # without its comments
grep -oE '[ *]image_cache_[a-z0-9_]+\(' <<<"$bare" | tr -d ' *(' | sort >"$folder/header"
sed 's/(.*//' "$here/functions.txt" | sort >"$folder/functions.txt"

# Each declaration, with nothing left of its parameters but their names.
grep -oE '[ *]image_cache_[a-z0-9_]+\([^;{]*\);' <<<"$bare" |
    sed -E 's/^[ *]//; s/\(void\)/()/; s/[^(,]*[ *]([a-z0-9_]+ *[,)])/\1/g; s/,/, /g; s/;$//' | sort >"$folder/parameters"
sort "$here/functions.txt" | diff - "$folder/parameters" || { echo "the contract (<) and the header (>) differ" && exit 1; }

compare() { # LIST LIST LIST: says which names are not in all of them
    local name list differ=0
    while read -r name; do
        for list in "$@"; do
            grep -qxF -e "$name" "$list" && continue
            echo "not in ${list##*/}: $name"
            differ=1
        done
    done < <(sort -u "$@")
    return $differ
}

cd "$folder" || exit 1
compare header exports functions.txt || exit 1
[ -z "$(uniq -d functions.txt)" ] || { echo "twice in functions.txt: $(uniq -d functions.txt)" && exit 1; }
count=$(wc -l <exports)
[ "$count" -ge 40 ] || { echo "the names could not be read" && exit 1; }

for list in header exports functions.txt; do
    cp "$list" right
    sed '$d' right >"$list"
    compare header exports functions.txt >found && echo "a name too few in $list was not noticed" && exit 1
    { cat right && echo image_cache_more; } >"$list"
    compare header exports functions.txt >found && echo "a name too many in $list was not noticed" && exit 1
    cp right "$list"
done
echo "$count functions, the same in the header, the library and functions.txt"
