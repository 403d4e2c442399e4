#!/usr/bin/env bash
# consume.sh WHAT WORK_DIRECTORY BUILD_DIRECTORY SOURCE_DIRECTORY CARGO_DIRECTORY BUILD_TYPE
#
# Builds and runs one consumer of the library that "install" has installed into WORK_DIRECTORY. Exit code 77 and a line
# "SKIPPED: why" mean that a tool is missing.
set -eu
what=$1 work=$2 build=$3 root=$4 cargo=$5 build_type=$6
here=$root/tests/consumers
prefix="$work/moved prefix"
go_prefix=$work/prefix-of-go # the same, for Go 1.19, which splits pkg-config's flags at spaces
scratch="$work/$what here"
cc="${CC:-cc} -std=c99 -D_GNU_SOURCE -Wall -Wextra -pedantic -Werror"

rm -rf "$scratch"
mkdir -p "$scratch"
unset DESTDIR LD_LIBRARY_PATH PKG_CONFIG_PATH PKG_CONFIG_LIBDIR CMAKE_PREFIX_PATH

skip() { echo "SKIPPED: $1" && exit 77; }
need() { command -v "$1" >/dev/null || skip "$1 is not installed"; }
fail() { echo "FAILED: $1" >&2 && exit 1; }

# ---- The installed tree ---------------------------------------------------------------------------------------------

# Installs a build tree below DESTDIR, as a packager does, and moves the result to TARGET.
install_and_move() { # BUILD_DIRECTORY PREFIX TARGET
    DESTDIR="$scratch/packager's directory" cmake --install "$1" --prefix "$2" >"$scratch/install.log"
    rm -rf "$3"
    mv "$scratch/packager's directory$2" "$3"
    [ -z "$(find "$scratch/packager's directory" ! -type d)" ] || fail "there are files outside the prefix"
    # No installed file names the prefix or the source and build trees.
    for path in "$2/" "$root" "$build"; do
        if grep -rlF "$path" "$3" --include='*.cmake' --include='*.pc' --include='*.h'; then
            fail "these files name $path"
        fi
    done
}

do_install() {
    install_and_move "$build" "/opt/first prefix" "$prefix"
    ln -sfn "$prefix" "$go_prefix"
    find "$prefix" ! -type d -printf '%P -> %l\n' | sort
    local names
    names=$(cd "$prefix" && find lib* -name 'libimage_cache.so*' | wc -l)
    [ "$names" -eq 3 ] || fail "the shared library should have three names"
    only_the_header_is_visible "$(library_directory)/libimage_cache.a"
    local document
    for document in README.md docs/guide.md examples-c/quickstart.c examples/README.md go/README.md; do
        [ -s "$prefix/share/doc/image_cache/$document" ] || fail "$document is not installed"
    done
}

functions_of_the_header() {
    sed -nE 's/^[a-z].*[ *](image_cache_[a-z0-9_]+)\(.*/\1/p' "$prefix/include/image_cache.h" | sort
}

# The visible symbols are exactly the header's functions.
only_the_header_is_visible() { # LIBRARY
    nm --defined-only --extern-only --format=posix "$1" | awk 'NF > 2 { print $1 }' | sort >"$scratch/visible"
    functions_of_the_header | diff - "$scratch/visible" || fail "the header (<) and $1 (>) differ"
    echo "$(wc -l <"$scratch/visible") functions"
}

# Each function has a page, with the parts that every page has, and without an error of form.
do_manual() {
    local pages="$prefix/share/man/man3" function part
    functions_of_the_header >"$scratch/functions"
    [ "$(wc -l <"$scratch/functions")" -ge 40 ] || fail "the functions could not be read"
    while read -r function; do
        for part in NAME SYNOPSIS DESCRIPTION NOTES 'SEE ALSO'; do
            grep -q "^\.SH $part$" "$pages/$function.3" || fail "$function.3 has no $part"
        done
        grep -q "^$function .- " "$pages/$function.3" || fail "$function.3 does not say what the function does"
    done <"$scratch/functions"
    grep -q '^IMAGE_CACHE_ERROR_BEING_CACHED\|^\.B IMAGE_CACHE_ERROR_BEING_CACHED' "$pages/image_cache_begin_write.3" ||
        fail "image_cache_begin_write.3 does not list its statuses"
    grep -q '^\.B IMAGE_CACHE_ERROR_TIMED_OUT' "$pages/image_cache_commit.3" ||
        fail "image_cache_commit.3 does not list the statuses of all functions"
    ! grep -q '^\.B IMAGE_CACHE_ERROR_TIMED_OUT' "$pages/image_cache_write_chunk.3" ||
        fail "image_cache_write_chunk.3 lists a status that the function does not return"
    # Each type has a page that leads to the one with all types.
    sed -nE 's/^typedef .*[ *(](image_cache_[a-z_]+)(;|\)\(.*)$/\1/p; s/^\} (image_cache_[a-z_]+);/\1/p' \
        "$prefix/include/image_cache.h" >"$scratch/types"
    [ "$(wc -l <"$scratch/types")" -ge 10 ] || fail "the types could not be read"
    while read -r function; do
        grep -qx '\.so man3/image_cache_types\.3' "$pages/$function.3" || fail "$function.3 does not lead to the types"
        grep -q "^\.SS $function$" "$pages/image_cache_types.3" || fail "image_cache_types.3 has no $function"
    done <"$scratch/types"
    need mandoc
    # From here the links of the types lead to a file.
    (cd "$prefix/share/man" && mandoc -T lint -W error man3/*.3) || fail "mandoc finds errors"
    grep -q '^\.BR ..image_cache_tee_open (3)' "$pages/image_cache_tee_read.3" ||
        fail "image_cache_tee_read.3 does not name its relatives"
    find "$pages" -type f | wc -l
}

# The soname, the security flags and the exports of the shared library.
do_shared_object() {
    local library soname expected
    library=$(library_directory)/libimage_cache.so
    readelf --dynamic --program-headers --wide "$library" >"$scratch/headers"
    soname=$(sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p' "$scratch/headers")
    expected=libimage_cache.so.$(sed -nE 's/^const ABI: u32 = ([0-9]+);/\1/p' "$root/build.rs")
    [ "$soname" = "$expected" ] || fail "the soname is '$soname', not $expected"
    local file
    file=$soname.$(sed -nE 's/^version = "[0-9]+\.(.*)"/\1/p' "$root/Cargo.toml" | head -n 1)
    [ "$(readlink "$library")" = "$file" ] || fail "libimage_cache.so is not a link to $file"
    [ "$(readlink "$(library_directory)/$soname")" = "$file" ] || fail "$soname is not a link to $file"
    grep -q GNU_RELRO "$scratch/headers" || fail "no RELRO"
    grep -q 'BIND_NOW' "$scratch/headers" || fail "RELRO is partial: functions are bound lazily"
    grep -q 'FLAGS_1.*NODELETE' "$scratch/headers" || fail "dlclose would unload it"
    ! grep -E 'TEXTREL|RPATH|RUNPATH' "$scratch/headers" || fail "it has text relocations or a run path"
    # Functions with their versions; the versions themselves are absolute symbols.
    nm --dynamic --defined-only --format=posix "$library" | awk '$2 != "A" { print $1 }' | sort >"$scratch/exports"
    ! grep -vE '@@IMAGE_CACHE_[0-9]+\.[0-9]+$' "$scratch/exports" || fail "these symbols have no version"
    functions_of_the_header | diff - <(sed 's/@@.*//' "$scratch/exports") ||
        fail "the header (<) and the exports (>) differ"
    grep NEEDED "$scratch/headers"
}

# A library with the header's functions, which do nothing, and OPTIONS of the linker. A program is linked with it to see what
# the loader then does with another library.
stub() { # DIRECTORY OPTIONS...
    local directory=$1
    shift
    mkdir -p "$directory"
    functions_of_the_header | sed 's/.*/void &(void); void &(void) {}/' >"$directory/stub.c"
    $cc -shared -fPIC "-Wl,-soname,$(basename "$(library_directory)"/libimage_cache.so.[0-9])" "$@" \
        -o "$directory/libimage_cache.so" "$directory/stub.c" || fail "cc"
    ln -s libimage_cache.so "$directory/$(basename "$(library_directory)"/libimage_cache.so.[0-9])"
}

# A program that was linked before the symbols had versions runs with this library. One that needs a later version does not start,
# and the loader says why, instead of a missing function in the middle of its work.
do_symbol_versions() {
    stub "$scratch/unversioned"
    $cc -I "$prefix/include" "$here/plain.c" "$here/exercise.c" -o "$scratch/old" "-L$scratch/unversioned" -limage_cache
    ! readelf --version-info "$scratch/old" | grep IMAGE_CACHE || fail "the old program needs a version"
    LD_LIBRARY_PATH=$(library_directory) LD_BIND_NOW=1 run "$scratch/old" 2>"$scratch/loader"
    ! grep version "$scratch/loader" || fail "the loader complains"

    { echo 'IMAGE_CACHE_99.0 { global:' && functions_of_the_header | sed 's/$/;/' && echo 'local: *; };'; } >"$scratch/later"
    stub "$scratch/later library" "-Wl,--version-script=$scratch/later"
    $cc -I "$prefix/include" "$here/plain.c" "$here/exercise.c" -o "$scratch/new" "-L$scratch/later library" -limage_cache
    ! LD_LIBRARY_PATH=$(library_directory) "$scratch/new" "$scratch/cache" 2>"$scratch/loader" || fail "it should not start"
    cat "$scratch/loader"
    grep -q "version .IMAGE_CACHE_99.0. not found" "$scratch/loader" || fail "the loader does not name the version"
}

# ---- How a consumer finds it ------------------------------------------------------------------------------------------

pkg_config() { # ARGUMENTS...: runs pkg-config on the moved tree
    need pkg-config
    local directory
    directory=$(dirname "$(find "$prefix" -name image_cache.pc)")
    PKG_CONFIG_PATH="$directory" pkg-config "$@" image_cache
}

library_directory() { dirname "$(find "$prefix" -name libimage_cache.so)"; }


run() { # PROGRAM ARGUMENTS...
    "$@" "$scratch/cache" || fail "$1: exit code $?"
}

run_example() { # HEADING PROGRAM ARGUMENTS...: it prints the text block below that heading of examples/README.md
    local heading=$1
    shift
    run "$@" >"$scratch/output"
    awk -v "heading=## $heading" '$0 == heading { here = 1 } here && /^```$/ && text { exit } text { print }
        here && /^```text$/ { text = 1 }' "$root/examples/README.md" >"$scratch/documented"
    [ -s "$scratch/documented" ] || fail "examples/README.md has no text block below '## $heading'"
    diff "$scratch/documented" "$scratch/output" || fail "it prints (>) something else than documented (<)"
}

do_pkg_config() {
    need pkg-config
    local version
    version=$(sed -nE 's/^version = "(.*)"/\1/p' "$root/Cargo.toml" | head -n 1)
    [ "$(pkg_config --modversion)" = "$version" ] || fail "its version is not $version"
    [ "$(eval echo "$(pkg_config --variable=prefix)")" -ef "$prefix" ] || fail "its prefix is not the moved one"
    eval "$cc $(pkg_config --cflags)" '"$here/plain.c" "$here/exercise.c" -o "$scratch/plain"' \
        "$(pkg_config --libs)" '"-Wl,-rpath,$(library_directory)"'
    readelf -d "$scratch/plain" | grep -q 'NEEDED.*\[libimage_cache\.so\.[0-9]*\]' || fail "the soname is not used"
    run "$scratch/plain"
}


# Configures and builds cmake_project. Its programs then run in its build tree, without LD_LIBRARY_PATH.
build_by_cmake() { # PROGRAM TARGET OPTIONS...
    local program=$1 target=$2
    shift 2
    command -v c++ >/dev/null || skip "c++ is not installed"
    if ! cmake -S "$here/cmake_project" -B "$scratch/build" "-DCONSUMERS=$here" "-DTARGET=$target" \
        -DCMAKE_BUILD_TYPE="$build_type" "$@" || ! cmake --build "$scratch/build" --target "$program"; then
        fail "CMake"
    fi
}

cmake_project() { # PROGRAM TARGET OPTIONS...
    build_by_cmake "$@"
    run "$scratch/build/$1"
}

do_cmake_c() { cmake_project plain image_cache::image_cache "-DCMAKE_PREFIX_PATH=$prefix"; }
do_cmake_cxx() {
    build_by_cmake cxx image_cache::shared "-DCMAKE_PREFIX_PATH=$prefix"
    run_example "C++, Rust, Python, Node" "$scratch/build/cxx"
}
do_static_by_cmake() {
    cmake_project plain image_cache::image_cache "-DCMAKE_PREFIX_PATH=$prefix" -DBUILD_SHARED_LIBS=OFF
    loads_no_image_cache "$scratch/build/plain"
}
do_add_subdirectory() {
    cmake_project plain image_cache::image_cache "-DSUBDIRECTORY=$root" "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo"
}

do_fetch_content() {
    cmake_project plain image_cache::static "-DFETCHED=$root" "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo"
}

# Before 1.0, another minor version is incompatible.
do_cmake_version() {
    local version expected
    for version in 0.2 0.2.0:1 0.1:0 0.3:0 1.0:0; do
        expected=1
        [ "${version#*:}" = 0 ] && expected=0
        cat >"$scratch/CMakeLists.txt" <<-END
			cmake_minimum_required(VERSION 3.18)
			project(version LANGUAGES NONE)
			find_package(image_cache ${version%:*} CONFIG QUIET)
			if(image_cache_FOUND)
			  message(STATUS "found=1")
			else()
			  message(STATUS "found=0")
			endif()
		END
        cmake -S "$scratch" -B "$scratch/build ${version%:*}" "-DCMAKE_PREFIX_PATH=$prefix" >"$scratch/log" 2>&1
        grep -q "found=$expected" "$scratch/log" || fail "find_package(image_cache ${version%:*}): expected found=$expected"
    done
}

# ---- The static library -----------------------------------------------------------------------------------------------

loads_no_image_cache() { # PROGRAM
    if readelf -d "$1" | grep 'NEEDED.*image_cache'; then
        fail "$1 is linked with the shared library"
    fi
}

link_static() { # PROGRAM FILES...
    local program=$1
    shift
    # As in docs/linking.md. pkg-config does not quote variables, so the path needs a name without a space.
    local alias=$work/prefix-of-$what
    ln -sfn "$prefix" "$alias"
    # shellcheck disable=SC2046
    $cc $(prefix=$alias/ pkg_config --cflags) "$@" "$here/exercise.c" -o "$program" \
        $(prefix=$alias/ pkg_config --variable=static_libs) || fail "cc: exit code $?"
    loads_no_image_cache "$program"
}

do_static() {
    link_static "$scratch/plain" "$here/plain.c"
    run "$scratch/plain"
}

# Links statically, including the C library.
do_static_alone() {
    need pkg-config
    eval "$cc -static $(pkg_config --static --cflags)" '"$here/plain.c" "$here/exercise.c" -o "$scratch/plain"' \
        "$(pkg_config --static --libs)" || fail "cc: exit code $?"
    ! readelf -d "$scratch/plain" | grep NEEDED || fail "it needs shared libraries"
    run "$scratch/plain"
}

do_static_with_sqlite() {
    echo '#include <sqlite3.h>' | $cc -E -x c - >/dev/null 2>&1 || skip "sqlite3.h is not installed"
    # In either order. If the library's SQLite were visible, the first one would be linked for both.
    link_static "$scratch/last" "$here/with_sqlite.c" -lsqlite3
    run "$scratch/last"
    rm -rf "$scratch/cache"*
    link_static "$scratch/first" -Wl,--no-as-needed -lsqlite3 "$here/with_sqlite.c" "$(library_directory)/libimage_cache.a"
    run "$scratch/first"
}

do_static_with_rust() {
    need rustc
    rustc --edition 2024 --crate-type staticlib -o "$scratch/libsecond.a" "$here/second_rust.rs"
    # Links all of the second library, so symbols that both define would conflict.
    local all=-Wl,--whole-archive only_needed=-Wl,--no-whole-archive
    link_static "$scratch/with_rust" "$here/with_rust.c" "$all" "$scratch/libsecond.a" "$only_needed"
    run "$scratch/with_rust"
}

# image-cachectl works without the installed library, has pages and completions, and fills a cache that the library reads.
do_tool() {
    local tool=$prefix/bin/image-cachectl page
    [ -x "$tool" ] || skip "image-cachectl was not built: IMAGE_CACHE_TOOLS is off"
    loads_no_image_cache "$tool"
    [ "$("$tool" --version)" = "image-cachectl $(sed -nE 's/^version = "(.*)"/\1/p' "$root/cachectl/Cargo.toml" | head -n 1)" ] ||
        fail "its version is not that of its crate"
    export IMAGE_CACHE_DIR=$scratch/cache IMAGE_CACHE_CONFIG=/dev/null
    "$tool" create || fail "create: exit code $?"
    echo hello | "$tool" add tool || fail "add: exit code $?"
    "$tool" verify || fail "verify: exit code $?"
    [ "$("$tool" export tool -)" = hello ] || fail "the image is not what was added"
    for page in '' -add -queue-list; do
        grep -q '^\.SH EXAMPLES$' "$prefix/share/man/man1/image-cachectl$page.1" || fail "image-cachectl$page.1 has no example"
    done
    for page in bash-completion/completions/image-cachectl zsh/site-functions/_image-cachectl \
        fish/vendor_completions.d/image-cachectl.fish; do
        grep -q make-room "$prefix/share/$page" || fail "$page does not know make-room"
    done
    for page in prune clean verify metrics; do
        grep -q "^ExecStart=image-cachectl $page" "$prefix/lib/systemd/system/image-cache-$page.service" || fail "no service for $page"
        [ -f "$prefix/lib/systemd/system/image-cache-$page.timer" ] || fail "no timer for $page"
    done
    for page in lib/sysusers.d/image-cache.conf lib/tmpfiles.d/image-cache.conf share/image-cache/image-cache.toml \
        share/image-cache/grafana/image-cache.json; do
        [ -f "$prefix/$page" ] || fail "$page is missing"
    done
}

# ---- Other languages, and the loader ----------------------------------------------------------------------------------

do_dlopen() {
    $cc -Wno-pedantic -I "$prefix/include" "$here/dlopen.c" -o "$scratch/dlopen" -pthread -ldl || fail "cc"
    run "$scratch/dlopen" "$(library_directory)/libimage_cache.so"
}

do_python() {
    need python3
    local python=$scratch/environment/bin/python
    python3 -m venv "$scratch/environment" >"$scratch/venv.log" 2>&1 || skip "python3 cannot create a virtual environment"
    timeout 120 "$python" -m pip install --quiet --retries 1 flit_core cffi >"$scratch/pip.log" 2>&1 ||
        skip "pip cannot install flit_core and cffi, which the wheel needs"
    "$python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation -w "$scratch/wheel" "$root/python" || fail "pip wheel"
    "$python" -m pip install --quiet --no-index "$scratch"/wheel/image_cache-*-py3-none-any.whl || fail "pip install"
    # The loader finds the library by its soname, as after `make install` and ldconfig.
    export LD_LIBRARY_PATH PYTHONDONTWRITEBYTECODE=1
    LD_LIBRARY_PATH=$(library_directory)
    cd "$scratch" || fail "cd"
    "$python" -c 'import image_cache, pathlib, sys
directory = pathlib.Path(image_cache.__file__).parent
sys.exit(not (directory.is_relative_to(sys.prefix) and (directory / "py.typed").exists()))' || fail "the wheel is not what is imported"
    grep -q "$(library_directory)/libimage_cache.so" <("$python" -c 'import image_cache; print(open("/proc/self/maps").read())') ||
        fail "another library is loaded"
    "$python" -X dev "$root/tests/python/run_tests.py" sqlite || fail "run_tests.py: exit code $?"
    "$python" "$root/tests/scenarios/python/scenario.py" sqlite "$root"/tests/scenarios/cases/*.scenario >"$scratch/transcript" ||
        fail "the scenarios: exit code $?"
    tail -n 1 "$scratch/transcript"
    run_example "C++, Rust, Python, Node" "$python" "$root/examples/python/agent.py"
}

# shellcheck disable=SC1091 # checked by itself
. "$here/go.sh"

do_node() {
    need node
    need npm
    local modules=$work/node # kept, so only the first run downloads koffi
    mkdir -p "$modules"
    cp "$root"/examples/node/* "$modules"
    if ! (cd "$modules" && node -e 'require("koffi")' 2>/dev/null) &&
        ! (cd "$modules" && timeout 120 npm install --ignore-scripts --no-audit --no-fund >"$scratch/npm.log" 2>&1 &&
            node -e 'require("koffi")' 2>>"$scratch/npm.log"); then
        cat "$scratch/npm.log"
        skip "npm cannot install koffi, the FFI module of the Node consumer"
    fi
    run_example "C++, Rust, Python, Node" node "$modules/agent.js" "$(library_directory)/libimage_cache.so"
}

# ---- Other ways to build and to install ----------------------------------------------------------------------------------

# Debian's library directory.
do_multiarch() {
    local triplet
    triplet=$($cc -print-multiarch)
    [ -n "$triplet" ] || skip "this compiler has no multiarch directory"
    cmake -S "$root" -B "$scratch/build" -DCMAKE_BUILD_TYPE="$build_type" -DIMAGE_CACHE_TESTS=OFF \
        -DIMAGE_CACHE_EXAMPLES=OFF "-DIMAGE_CACHE_CARGO_TARGET_DIR=$cargo" "-DCMAKE_INSTALL_LIBDIR=lib/$triplet"
    cmake --build "$scratch/build" || fail "CMake"
    prefix="$work/moved multiarch"
    install_and_move "$scratch/build" "/opt/distribution" "$prefix"
    [ -e "$prefix/lib/$triplet/libimage_cache.so" ] || fail "the library is not in lib/$triplet"
    do_pkg_config
    rm -rf "$scratch/cache"
    cmake -S "$here/cmake_project" -B "$scratch/consumer" "-DCONSUMERS=$here" -DTARGET=image_cache::shared \
        "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_LIBRARY_ARCHITECTURE=$triplet"
    cmake --build "$scratch/consumer" --target plain || fail "CMake"
    run "$scratch/consumer/plain"
}

"do_$what"
echo "$what: passed"
