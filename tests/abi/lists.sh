#!/usr/bin/env bash
# lists.sh NM LIBRARY
#
# Four lists are equal: the functions of the header, the exports of the shared library, those of its version script
# (image_cache.map), and functions.txt, the contract. The contract also has the parameters' names in the header's
# order, because a compiler accepts two swapped parameters of one type. Each export has the version that the script gives
# it. Then the test adds a name to each list and removes one, and the comparison must report both.
set -u
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export LC_ALL=C

"$1" -D --defined-only "$2" >"$directory/symbols" || exit 1
# NAME@@VERSION for a function; each version itself is an absolute symbol.
awk '$2 == "A" && $3 ~ /^IMAGE_CACHE_[0-9]+\.[0-9]+$/ { next }
    { print ($2 == "T") ? $3 : $3 " (not a function, but " $2 ")" }' "$directory/symbols" | sort >"$directory/versioned"
sed 's/@@.*//' "$directory/versioned" | sort >"$directory/exports"
sed -zE 's:/\*([^*]|\*+[^*/])*\*+/::g; s:[{};]: & :g' "$here/../../image_cache.map" | tr -s ' \n' '\n' |
    awk '$1 == "{" { version = last } $1 == ";" && last ~ /^image_cache_/ { print last "@@" version } { last = $1 }' |
    sort >"$directory/script"
sed 's/@@.*//' "$directory/script" | sort >"$directory/map"
bare=$(sed -zE 's:/\*([^*]|\*+[^*/])*\*+/::g; s:\n: :g' "$here/../../include/image_cache.h") # without its comments
grep -oE '[ *]image_cache_[a-z0-9_]+\(' <<<"$bare" | tr -d ' *(' | sort >"$directory/header"
sed 's/(.*//' "$here/functions.txt" | sort >"$directory/functions.txt"

# Each declaration, its parameters reduced to their names.
grep -oE '[ *]image_cache_[a-z0-9_]+\([^;{]*\);' <<<"$bare" |
    sed -E 's/^[ *]//; s/\(void\)/()/; s/[^(,]*[ *]([a-z0-9_]+ *[,)])/\1/g; s/,/, /g; s/;$//' | sort >"$directory/parameters"
sort "$here/functions.txt" | diff - "$directory/parameters" || { echo "the contract (<) and the header (>) differ" && exit 1; }

compare() { # LIST LIST LIST: prints the names that are not in all of them
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

cd "$directory" || exit 1
compare header exports map functions.txt || exit 1
diff script versioned || { echo "the version script (<) and the exports (>) differ" && exit 1; }
[ -z "$(uniq -d functions.txt)" ] || { echo "twice in functions.txt: $(uniq -d functions.txt)" && exit 1; }
count=$(wc -l <exports)
[ "$count" -ge 40 ] || { echo "the names could not be read" && exit 1; }

for list in header exports map functions.txt; do
    cp "$list" right
    sed '$d' right >"$list"
    compare header exports map functions.txt >found && echo "a name missing in $list was not reported" && exit 1
    { cat right && echo image_cache_more; } >"$list"
    compare header exports map functions.txt >found && echo "a name added to $list was not reported" && exit 1
    cp right "$list"
done
echo "$count functions, the same in the header, the library, its version script and functions.txt"
