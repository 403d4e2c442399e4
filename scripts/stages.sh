# shellcheck shell=bash
# Runs stages of tests, counts what passed, failed and was skipped, and prints the table. scripts/test.sh and
# scripts/test-more.sh read it. Given: $logs, the directory of the output; $longest, the seconds after which a stage fails.
: "${logs:?}" "${longest:?}"
passed=0 failed=0 skipped=0 table=''

# What a failing stage's output is shown without: compilations, and tests that passed.
no_news='^ +(Compiling|Checking|Download(ed|ing)|PASS|Start) |^test .* ok$|Passed +[0-9.]+ sec$'

number() { # PATTERN TEXT: the sum of the numbers that stand before PATTERN
    grep -oE "[0-9]+ $1" <<<"$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Each counter reads a log and sets p, f and s. A stage that is one check has none: its counter is "one".
count_nextest() {
    local line
    line=$(grep -E 'Summary \[' "$1" | tail -n 1)
    p=$(number passed "$line") s=$(number skipped "$line")
    f=$(($(number failed "$line") + $(number 'timed out' "$line")))
}

count_cargo() {
    local lines
    lines=$(grep -E '^test result: ' "$1")
    p=$(number passed "$lines") f=$(number failed "$lines") s=$(number ignored "$lines")
}

count_doc_tests() { count_cargo "$1" && may_be_empty=1; }

count_ctest() {
    local total
    total=$(sed -nE 's/.* tests failed out of ([0-9]+)$/\1/p' "$1" | tail -n 1)
    f=$(sed -nE 's/.*, ([0-9]+) tests failed out of [0-9]+$/\1/p' "$1" | tail -n 1)
    s=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*Skipped' "$1")
    f=${f:-0}
    p=$((${total:-0} - f - s))
}

# Each of its lines that begins with "passed: ", "FAILED: " or "SKIPPED: " is one check.
count_lines() {
    p=$(grep -c '^passed: ' "$1") f=$(grep -c '^FAILED: ' "$1") s=$(grep -c '^SKIPPED: ' "$1")
}

# The last line of a script of tests: "N passed, N failed, N skipped".
count_last_line() {
    local line
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$1" | tail -n 1)
    p=$(number passed "$line") f=$(number failed "$line") s=$(number skipped "$line")
}

row() { table+=$(printf '%-14s %-8s %7d %7d %8d %7d s' "$@")$'\n'; }

stage() { # NAME COUNTER COMMAND...
    local name=$1 counter=$2 log=$logs/${1// /-}.log start=$SECONDS code p=0 f=0 s=0 result=passed may_be_empty=0
    shift 2
    if [ -n "${CI:-}${VERBOSE:-}" ]; then
        printf '\n==== %s ====\n' "$name"
        timeout -k 10 "$longest" "$@" 2>&1 | tee "$log"
        code=${PIPESTATUS[0]}
    else
        printf '%-14s ' "$name"
        timeout -k 10 "$longest" "$@" >"$log" 2>&1
        code=$?
    fi
    if [ "$counter" = one ]; then
        [ "$code" -eq 0 ] && p=1
    else
        "$counter" "$log"
    fi
    # Whatever the counter found: a failure of the command is one, and so are tests of which none ran.
    [ "$f" -eq 0 ] && [ "$code" -ne 0 ] && f=1
    [ $((p + f + s + may_be_empty)) -eq 0 ] && f=1
    [ "$f" -gt 0 ] && result=failed
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    row "$name" "$result" "$p" "$f" "$s" $((SECONDS - start))
    echo "$result, $((SECONDS - start)) s"
    if [ "$f" -gt 0 ] && [ -z "${CI:-}${VERBOSE:-}" ]; then
        grep -vE "$no_news" "$log" | tail -n 200 | sed 's/^/    | /'
        echo "    (exit code $code; the whole log: $log)"
    fi
    [ "$f" -eq 0 ]
}

skip() { # NAME WHY
    printf '%-14s skipped: %s\n' "$1" "$2"
    skipped=$((skipped + 1))
    row "$1" skipped 0 0 1 0
}

print_table() {
    printf '\n%-14s %-8s %7s %7s %8s %9s\n%s' stage result passed failed skipped time "$table"
}
