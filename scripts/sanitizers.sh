#!/usr/bin/env bash
# Runs the C tests, the scenarios and the fuzzer's corpus with AddressSanitizer and UndefinedBehaviorSanitizer, and the
# tests of threads and processes with ThreadSanitizer. Ends with "N passed, N failed, N skipped".
#
# All code is instrumented: the C tests, the library's Rust, and SQLite. ThreadSanitizer needs an instrumented Rust std,
# too, and so its source (`rustup component add rust-src`). Without the source these tests count as skipped:
# ThreadSanitizer does not see the locks of another std, and hundreds of false reports hide a true one. helgrind sees
# pthread's locks only, so it is no substitute. UndefinedBehaviorSanitizer checks the C tests; the Rust code has its own
# overflow and bounds checks.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
export SANITIZERS_BUILD=${SANITIZERS_BUILD:-$PWD/build/sanitizers}
build=$SANITIZERS_BUILD
work=$build/work
passed=0 failed=0 skipped=0
export PATH="$PATH:/usr/sbin:/sbin"
unset MAKEFLAGS MAKELEVEL
scripts/install-tools.sh clang clang-runtime || exit 1
rm -rf "$work" "$build/logs"
mkdir -p "$work" "$build/logs"

# LeakSanitizer is on, except for forked children, which leave their parent's memory on purpose.
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:abort_on_error=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=0:exitcode=66

compile() { # SANITIZERS OUTPUT SOURCE...
    local sanitizers=$1 output=$2
    shift 2
    clang -std=c99 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -Wall -Wextra -Werror "-fsanitize=$sanitizers" \
        -fno-sanitize-recover=all -Iinclude "$@" -o "$output" "$library" -lpthread -ldl -lm
}

run() { # NAME COMMAND...: exit code 77 is a skipped test
    local name=$1 log=$build/logs/$1.log start=$SECONDS code
    shift
    (cd "$work" && TMPDIR=$work timeout -k 10 900 "$@") >"$log" 2>&1 </dev/null
    code=$?
    case $code in
        0) passed=$((passed + 1)) ;;
        77) skipped=$((skipped + 1)) ;;
        *) failed=$((failed + 1)) && tail -n 60 "$log" | sed 's/^/    | /' ;;
    esac
    case $code in 0) code=passed ;; 77) code=skipped ;; *) code="failed ($code)" ;; esac
    printf '%-34s %s, %d s\n' "$name" "$code" $((SECONDS - start))
}

# ---- AddressSanitizer and UndefinedBehaviorSanitizer ----------------------------------------------------------------

echo "Building the library with sanitizers, twice; the first time takes minutes."
library=$(scripts/sanitized-library.sh address) || exit 1
for test in null_arguments bad_input bad_directory size_limit lifetime fork fork_namespace threads processes; do
    compile address,undefined "$build/asan_$test" "tests/c/$test.c" || exit 1
    for driver in sqlite xattr; do
        case $test in
            fork* | processes) run "asan.$test.$driver" env ASAN_OPTIONS=detect_leaks=0 "$build/asan_$test" $driver ;;
            *) run "asan.$test.$driver" "$build/asan_$test" $driver ;;
        esac
    done
done
compile address,undefined "$build/asan_scenario" tests/scenarios/c/*.c || exit 1
for driver in sqlite xattr; do
    run "asan.scenarios.$driver" "$build/asan_scenario" $driver "$root"/tests/scenarios/cases/*.scenario
done
compile address,undefined "$build/asan_calls" fuzz/*.c || exit 1
run asan.fuzz "$build/asan_calls" "$root"/fuzz/corpus/*

# ---- ThreadSanitizer ------------------------------------------------------------------------------------------------

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "tsan: skipped: the source of Rust's std is missing (rustup component add rust-src)"
    skipped=$((skipped + 4))
else
    library=$(scripts/sanitized-library.sh thread) || exit 1
    # rustc's own runtime: clang's may be too old for rustc's code.
    host=$(rustc -vV | sed -n 's/^host: //p')
    runtime=$(echo "$(rustc --print sysroot)/lib/rustlib/$host/lib"/librustc-*_rt.tsan.a)
    for test in threads processes; do
        clang -std=c99 -D_GNU_SOURCE -O1 -g -fsanitize=thread -Iinclude -c "tests/c/$test.c" -o "$build/tsan_$test.o" &&
            clang "$build/tsan_$test.o" "$library" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
                -lpthread -ldl -lm -lrt -o "$build/tsan_$test" || exit 1
        for driver in sqlite xattr; do
            run "tsan.$test.$driver" "$build/tsan_$test" $driver
        done
    done
fi

printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
