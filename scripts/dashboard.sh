#!/usr/bin/env bash
# Runs each query of share/grafana/image-cache.json on a real Prometheus, which scrapes a cache that is used meanwhile. A query that fails,
# or that returns nothing, fails. Needs prometheus, promtool and python3, which it installs where that is allowed. Takes a minute.
set -eu
cd "$(dirname "$0")/.."
scripts/install-tools.sh promtool python3

work=$PWD/build/dashboard
rm -rf "$work"
mkdir -p "$work/served"
cargo build --quiet --locked -p image-cachectl
tool=${CARGO_TARGET_DIR:-$PWD/target}/debug/image-cachectl
export IMAGE_CACHE_CONFIG=/dev/null IMAGE_CACHE_DIR=$work/cache

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT

# A free port: of the server first, whose output names it.
python3 -u -m http.server --bind 127.0.0.1 --directory "$work/served" 0 >"$work/server.log" 2>&1 &
started+=($!)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { # WHAT COMMAND...: repeats a command until it succeeds, for a minute
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "no success within a minute: $what" && exit 1; }
        sleep 0.2
    done
}
until_true "the server starts" grep -q 'port [0-9]' "$work/server.log"
port=$(sed -nE 's/.* port ([0-9]+) .*/\1/p' "$work/server.log" | head -n 1)

use() { # ROUND: hits, misses, commits, failed fetches, evictions
    head -c 400K /dev/urandom | "$tool" add --no-progress "image-$1" - >/dev/null
    "$tool" export --no-progress "image-$1" "$work/copy-$1" >/dev/null
    "$tool" export --no-progress "missing-$1" "$work/missing" >/dev/null 2>&1 || true
    echo bytes | "$tool" add --no-progress --digest md5:00000000000000000000000000000000 "wrong-$1" - >/dev/null 2>&1 || true
    "$tool" metrics --textfile "$work/served/metrics.txt"
}
"$tool" create >/dev/null
"$tool" limit set 2M >/dev/null
use 0

cat >"$work/prometheus.yml" <<END
global: { scrape_interval: 1s }
scrape_configs:
  - { job_name: image_cache, metrics_path: /metrics.txt, static_configs: [{ targets: ['127.0.0.1:$port'] }] }
END
promtool check config "$work/prometheus.yml" >/dev/null
own=$(free_port)
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="127.0.0.1:$own" \
    >"$work/prometheus.log" 2>&1 &
started+=($!)
until_true "Prometheus answers" promtool query instant "http://127.0.0.1:$own" 'vector(1)' >/dev/null 2>&1
# Rates need several scrapes with growth in between: each round waits for a scrape of its numbers.
for round in 1 2 3 4 5 6; do
    use "$round"
    until_true "a scrape of round $round" sh -c "promtool query instant 'http://127.0.0.1:$own' 'image_cache_commits_total == $((round + 1))' |
        grep -q image_cache"
done

python3 - "$own" <<'END'
import json, sys, urllib.parse, urllib.request

def query(text):
    url = f"http://127.0.0.1:{sys.argv[1]}/api/v1/query?" + urllib.parse.urlencode({"query": text})
    try:
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"FAILED: {text}\n{error.read().decode()}")

dashboard = json.load(open("share/grafana/image-cache.json"))
queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
empty = 0
for title, text in queries:
    # What Grafana replaces.
    text = text.replace("$instance", ".*").replace("$directory", ".*").replace("$__rate_interval", "1m")
    result = query(text)
    values = ", ".join(f"{float(series['value'][1]):.4g}" for series in result)
    print(f"{title}: {values or 'NOTHING'}")
    empty += not result
for variable in dashboard["templating"]["list"]:
    if "definition" in variable:
        selector, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        found = [series["metric"][label] for series in query(selector.replace("$instance", ".*"))]
        print(f"variable {variable['name']}: {found or 'NOTHING'}")
        empty += not found
print(f"{len(queries)} queries ran, {empty} returned nothing")
sys.exit(empty > 0)
END
