//! Metrics, their files, the dashboard's names, and the report.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use image_cache::DriverChoice;
use libtest_mimic::Completion;

use crate::Test;
use crate::tool::{Cache, missing, piped, repository};

pub const TESTS: &[(&str, Test)] = &[
    ("promtool_accepts_the_metrics", promtool),
    ("the_parser_of_openmetrics_accepts_them", openmetrics),
    ("counters_grow_over_restarts_and_never_shrink", counters),
    ("a_textfile_is_replaced_by_one_rename", textfile),
    ("a_failure_leaves_the_former_textfile", failure),
    ("json_has_the_same_numbers", json),
    ("the_dashboard_uses_metrics_that_exist", dashboard),
    ("a_report_has_charts_of_the_history", report),
];

/// The samples of a text by name and labels without the directory.
fn samples(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap();
        let labels = labels.trim_end_matches('}').rsplit_once("images\"").unwrap().1.trim_start_matches(',');
        (format!("{name} {labels}").trim().to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn promtool(driver: DriverChoice) -> Completion {
    if let Some(skipped) = missing("promtool") {
        return skipped;
    }
    let cache = Cache::new(driver);
    let text = cache.output(&["metrics"]);
    let output = piped(Command::new("promtool").args(["check", "metrics"]), &text);
    // Its advice is an error as well.
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}\n{text}");
    // It can fail.
    let output = piped(Command::new("promtool").args(["check", "metrics"]), &text.replace("_total", ""));
    assert!(!output.status.success());
    Completion::Completed
}

const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.samples, family
    print(family.name, family.type, family.unit, family.samples[0].labels['directory'])
";

fn openmetrics(driver: DriverChoice) -> Completion {
    // Debian's module is for Debian's Python.
    let has_module = |python: &&str| {
        let output = Command::new(python).args(["-c", "import prometheus_client"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_module) else {
        return Completion::ignored_with("prometheus_client is missing; scripts/install-tools.sh installs it");
    };
    let cache = Cache::new(driver);
    let text = cache.output(&["metrics", "--format", "openmetrics"]);
    let output = piped(Command::new(python).args(["-c", PARSE]), &text);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let parsed = String::from_utf8(output.stdout).unwrap();
    let path = cache.path.canonicalize().unwrap();
    assert!(parsed.contains(&format!("image_cache_evicted_bytes counter bytes {}", path.display())), "{parsed}");
    assert!(parsed.contains("image_cache info ") && parsed.contains("image_cache_images gauge "));
    Completion::Completed
}

fn counters(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let mut before = samples(&cache.output(&["metrics"]));
    assert_eq!(before["image_cache_commits_total"], 2);
    assert_eq!(before["image_cache_failed_fetches_total reason=\"aborted\""], 1);
    for round in 1..=3 {
        // Each reader has a handle of its own, and each metrics run is another process.
        cache.read("one");
        let after = samples(&cache.output(&["metrics"]));
        assert_eq!(after["image_cache_requests_total result=\"hit\""], round);
        assert_eq!(after["image_cache_served_bytes_total"], round * 5000);
        for (name, value) in before.iter().filter(|(name, _)| name.contains("_total")) {
            assert!(after[name] >= *value, "{name} was {value}, and is {}", after[name]);
        }
        before = after;
    }
    assert!(cache.open().delete_unused_image("two").unwrap());
    let after = samples(&cache.output(&["metrics"]));
    assert_eq!((after["image_cache_images"], after["image_cache_logical_bytes"]), (1, 5000));
    assert_eq!(after["image_cache_commits_total"], 2);
    Completion::Completed
}

fn textfile(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let (path, text) = (cache.file("image_cache.prom"), "image_cache.prom");
    assert_eq!(cache.output(&["metrics", "--textfile", text]), "");
    let mut reader = fs::File::open(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    cache.read("one");
    cache.output(&["metrics", "--textfile", text]);
    // A reader that has the former file open reads that one, to its end.
    let mut former = String::new();
    reader.read_to_string(&mut former).unwrap();
    assert_eq!(samples(&former)["image_cache_requests_total result=\"hit\""], 0);
    let metadata = fs::metadata(&path).unwrap();
    assert_ne!(metadata.ino(), inode);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o644);
    let present = fs::read_to_string(&path).unwrap();
    assert_eq!(samples(&present)["image_cache_requests_total result=\"hit\""], 1);
    assert_eq!(fs::read_dir(cache.scratch.path()).unwrap().count(), 2, "a temporary file was left");
    Completion::Completed
}

fn failure(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.output(&["metrics", "--textfile", "image_cache.prom"]);
    let before = fs::read_to_string(cache.file("image_cache.prom")).unwrap();
    fs::rename(&cache.path, cache.file("elsewhere")).unwrap();
    let output = cache.run(&["metrics", "--textfile", "image_cache.prom"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(fs::read_to_string(cache.file("image_cache.prom")).unwrap(), before);
    Completion::Completed
}

fn json(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.read("two");
    let json: serde_json::Value = serde_json::from_str(&cache.output(&["metrics", "--json"])).unwrap();
    assert_eq!((&json["images"], &json["hits"], &json["bytes"]), (&2.into(), &1.into(), &10_000.into()));
    assert_eq!(json["failures"]["aborted"], 1);
    Completion::Completed
}

fn dashboard(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.output(&["limit", "set", "1G"]);
    let known = samples(&cache.output(&["metrics"]));
    let text = fs::read_to_string(repository("share/grafana/image-cache.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = json["panels"].as_array().unwrap();
    let mut used = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap();
        for part in query.split("image_cache_").skip(1) {
            let name = part.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap();
            let name = format!("image_cache_{name}");
            assert!(known.keys().any(|known| known.split(' ').next() == Some(&name)), "{name} does not exist");
            used += 1;
        }
    }
    assert!(used > 20, "only {used} metrics were found");
    let mut numbers: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), panels.len());
    Completion::Completed
}

fn report(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let history = cache.file("history.jsonl");
    for _ in 0..3 {
        cache.output(&["metrics", "--history", "history.jsonl", "--textfile", "x.prom"]);
        cache.read("one");
    }
    let lines = fs::read_to_string(&history).unwrap();
    assert_eq!(lines.lines().count(), 3);
    // The runs are of one second, as a rule. Some of them were an hour ago.
    let mut hour_ago: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    hour_ago["time"] = (hour_ago["time"].as_u64().unwrap() - 3600).into();
    fs::write(&history, format!("{hour_ago}\nno sample\n{lines}")).unwrap();
    let output = cache.run(&["report", "--html", "report.html", "--history", "history.jsonl"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 line of the history is no sample"), "{output:?}");
    let html = fs::read_to_string(cache.file("report.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(html.contains("cache &quot;of&quot; \\ images") && html.contains("100 %, 2 hits, 0 misses"), "{html}");
    // Without a history, or with a wrong name of one.
    cache.output(&["report", "--html", "report.html"]);
    assert!(fs::read_to_string(cache.file("report.html")).unwrap().contains("There is no history yet"));
    let output = cache.run(&["report", "--html", "report.html", "--history", "nothing.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    Completion::Completed
}
