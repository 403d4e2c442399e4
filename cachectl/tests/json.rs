//! The JSON of each command has the fields that `docs/image-cachectl.md` lists, and no others.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Cache, DRIVERS, file};
use serde_json::Value;

type Fields = BTreeSet<String>;

/// The fields of the lists, of `failed[]` and of `plan`, which the document has once.
const IMAGE: [&str; 9] =
    ["id", "size", "allocated", "hits", "accessed_at", "cached_at", "digest", "pinned", "pinned_until"];
const FAILED: [&str; 3] = ["id", "code", "message"];

/// The fields of a command in the document.
fn documented() -> BTreeMap<String, Fields> {
    let text = include_str!("../../docs/image-cachectl.md");
    let table = text.split_once("| command | fields |\n").unwrap().1.split("\n\n").next().unwrap();
    let mut all = BTreeMap::new();
    for row in table.lines().skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [commands, fields] = cells.as_slice() else { panic!("{row}") };
        for command in spans(commands) {
            all.insert(command, spans(fields).into_iter().flat_map(|field| expanded(&field)).collect());
        }
    }
    let under =
        |prefix: &str, fields: &Fields| fields.iter().map(|field| format!("{prefix}{field}")).collect::<Vec<_>>();
    let of_list = |command: &str, prefix: &str| {
        let fields: &Fields = &all[command];
        fields.iter().map(|field| field.strip_prefix(prefix).unwrap().to_owned()).collect::<Fields>()
    };
    let (incomplete, invalid) =
        (of_list("list --incomplete", "incomplete[]."), of_list("list --invalid", "invalid[]."));
    let show = all.get_mut("show").unwrap();
    show.extend(under("incomplete.", &incomplete));
    show.extend(under("invalid.", &invalid));
    let plan_text = text.split_once("`plan` is that of a dry run: ").unwrap().1.split_once(". `holder`").unwrap().0;
    let plan: Fields = spans(plan_text).into_iter().collect();
    for command in ["prune", "make-room", "limit"] {
        let fields = all.get_mut(command).unwrap();
        assert!(fields.remove("plan"), "{command} has no plan");
        fields.extend(under("plan.", &plan));
    }
    all
}

/// What a field stands for.
fn expanded(field: &str) -> Vec<String> {
    let under = |prefix: &str, fields: &[&str]| fields.iter().map(|field| format!("{prefix}{field}")).collect();
    match field {
        "failed[]" => under("failed[].", &FAILED),
        "cached." | "image." => under(field, &IMAGE),
        "incomplete." | "invalid." | "list" => Vec::new(),
        field => vec![field.to_owned()],
    }
}

fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The paths of all values: `a.b`, `a[].b`.
fn paths(value: &Value, prefix: &str, found: &mut Fields) {
    match value {
        Value::Object(fields) => {
            let dot = if prefix.is_empty() { "" } else { "." };
            fields.iter().for_each(|(name, value)| paths(value, &format!("{prefix}{dot}{name}"), found));
        }
        Value::Array(values) => {
            if values.is_empty() {
                found.insert(format!("{prefix}[]"));
            }
            for value in values {
                paths(value, &format!("{prefix}[]"), found);
            }
        }
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

/// An empty list, or an object that is null, stands for its documented fields.
fn is_documented(path: &str, fields: &Fields) -> bool {
    let inner =
        |field: &String| field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    fields.iter().any(inner)
}

/// Runs of a command that together have each of its fields.
fn runs(cache: &Cache) -> Vec<(&'static str, Value)> {
    let mut runs = Vec::new();
    let mut run = |command, arguments: &[&str]| {
        runs.push((command, cache.run(&[arguments, &["--json"]].concat()).json()));
    };
    let image = file(&cache.beside("image"), b"hello");
    run("create", &["--driver", cache.driver, "create"]);
    run("add", &["add", "1", &image]);
    run("add", &["add", "2", &image]);
    run("add", &["add", "3", &image]);
    cache.run(&["add", "failed", &image, "--size", "5", "--digest", &"0".repeat(32)]).expect(5);
    let agent = cache.open();
    let writer = agent.begin_write("begun").unwrap();
    run("pin", &["pin", "1", "absent", "--for", "1h"]);
    run("queue add", &["queue", "add", "later", "a/b"]);
    for command in ["status", "list", "stats", "metrics", "doctor"] {
        run(command, &[command]);
    }
    run("list --incomplete", &["list", "--incomplete"]);
    run("list --invalid", &["list", "--invalid"]);
    for id in ["1", "begun", "failed", "later"] {
        run("show", &["show", id]);
    }
    run("report", &["report", "--html", "report.html"]);
    run("export", &["export", "1", "out"]);
    run("queue list", &["queue"]);
    run("prune", &["prune", "--to", "9", "--dry-run"]);
    run("prune", &["prune", "--to", "1G"]);
    run("limit", &["limit", "set", "1", "--dry-run"]);
    run("limit", &["limit"]);
    let config = file(&cache.beside("conf"), b"max-size = '20'");
    run("make-room", &["--config", &config, "make-room", "10", "--dry-run"]);
    run("make-room", &["make-room", "1"]);
    run("clean", &["clean", "--dry-run"]);
    run("clean", &["clean"]);
    run("verify", &["verify", "absent"]);
    run("verify", &["verify"]);
    run("unpin", &["unpin", "1", "2"]);
    run("queue remove", &["queue", "remove", "later", "absent"]);
    run("delete", &["delete", "1", "absent"]);
    drop(writer);
    drop(agent);
    let lines = file(&cache.beside("lines"), b"2\t1\t1700000000\nabsent\t1\t1700000000\n");
    run("take-over", &["take-over", &lines]);
    run("convert", &["convert", if cache.driver == "sqlite" { "xattr" } else { "sqlite" }]);
    runs
}

#[test]
fn the_fields_are_those_of_the_document() {
    let documented = documented();
    for driver in DRIVERS {
        let cache = Cache::absent(driver);
        let mut found: BTreeMap<&str, Fields> = BTreeMap::new();
        for (command, value) in runs(&cache) {
            let mut run = Fields::new();
            paths(&value, "", &mut run);
            for path in &run {
                let known = is_documented(path.trim_end_matches("[]"), &documented[command]);
                assert!(known, "{command}: the document lacks {path}: {value}");
            }
            found.entry(command).or_default().extend(run);
        }
        for (command, fields) in &documented {
            let seen = found.get(command.as_str()).unwrap_or_else(|| panic!("no run of {command}"));
            let missing: Vec<_> = fields.difference(seen).collect();
            assert!(missing.is_empty(), "{command} with {driver} has no {missing:?}: {seen:?}");
        }
    }
}

/// A path that the document does not have is found, or the test above could not fail.
#[test]
fn an_undocumented_field_is_found() {
    let fields = Fields::from(["a.b".to_owned(), "c[].d".to_owned()]);
    assert!(["a.b", "c[].d", "c", "a"].iter().all(|path| is_documented(path, &fields)));
    assert!(["a.c", "ab", "c[].e", "e"].iter().all(|path| !is_documented(path, &fields)));
}
