//! The units of systemd: their syntax, their sandbox, what they run, and that nothing ages the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_cache::DriverChoice;
use libtest_mimic::Completion;

use crate::tool::{Cache, missing, repository};

type Test = fn() -> Completion;

pub const TESTS: &[(&str, Test)] = &[
    ("each_service_is_sandboxed", sandbox),
    ("systemd_accepts_each_unit", syntax),
    ("each_service_has_a_timer_and_its_command_works", commands),
    ("no_command_needs_a_system_call_that_the_sandbox_forbids", system_calls),
    ("systemd_tmpfiles_does_not_age_the_cache", tmpfiles),
    ("systemd_sysusers_makes_the_user_of_the_services", sysusers),
];

/// The worst exposure that is permitted, in tenths.
const WORST: &str = "30";

fn units(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository("share/systemd")).unwrap().map(|entry| entry.unwrap().path());
    let mut units: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    units.sort();
    assert_eq!(units.len(), 4);
    units
}

fn sandbox() -> Completion {
    if let Some(skipped) = missing("systemd-analyze") {
        return skipped;
    }
    let check = |unit: &Path| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", "--threshold", WORST]).arg(unit).output().unwrap()
    };
    for unit in units("service") {
        let output = check(&unit);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        // It can fail.
        let scratch = tempfile::tempdir().unwrap();
        let open = scratch.path().join(unit.file_name().unwrap());
        let text = fs::read_to_string(&unit).unwrap();
        let lines = text
            .lines()
            .filter(|line| !["Protect", "Private", "Restrict", "SystemCall"].iter().any(|key| line.starts_with(key)));
        fs::write(&open, lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert!(!check(&open).status.success());
    }
    Completion::Completed
}

/// A copy of the units whose commands are the built program.
fn copied(scratch: &Path) -> Vec<PathBuf> {
    let program = format!("ExecStart={} ", env!("CARGO_BIN_EXE_image-cachectl"));
    let copy = |unit: PathBuf| {
        let text = fs::read_to_string(&unit).unwrap().replace("ExecStart=image-cachectl ", &program);
        let copy = scratch.join(unit.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        copy
    };
    units("service").into_iter().chain(units("timer")).map(copy).collect()
}

fn syntax() -> Completion {
    if let Some(skipped) = missing("systemd-analyze") {
        return skipped;
    }
    let scratch = tempfile::tempdir().unwrap();
    let units = copied(scratch.path());
    let verify = || Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let output = verify();
    // It speaks of the host's own units as well.
    let about_ours =
        |text: &[u8]| String::from_utf8_lossy(text).lines().filter(|line| line.contains("image-cache")).count();
    assert_eq!(about_ours(&output.stderr), 0, "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&units[0], "[Service]\nExecStart=/bin/true\nProtectHome=perhaps\n").unwrap();
    assert!(about_ours(&verify().stderr) > 0);
    Completion::Completed
}

/// What a unit runs, without the program's name.
fn command(unit: &Path, state: &Path) -> Vec<String> {
    let text = fs::read_to_string(unit).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=image-cachectl ")).unwrap().to_owned();
    line.replace("%S", state.to_str().unwrap()).split(' ').map(str::to_owned).collect()
}

/// A cache, and the configuration that names it.
fn configured() -> (Cache, PathBuf, PathBuf) {
    let cache = Cache::new(DriverChoice::Sqlite);
    let (config, state) = (cache.file("image-cache.toml"), cache.file("state"));
    let example = fs::read_to_string(repository("share/image-cache.toml")).unwrap();
    let path = cache.path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    let text = example.replace("directory = \"/var/lib/image-cache\"", &format!("directory = \"{path}\""));
    let text = text.replace("# max-size", "max-size").replace("# min-free", "min-free").replace("10G,5%", "1M");
    assert_ne!(text, example);
    fs::write(&config, text).unwrap();
    fs::create_dir_all(state.join("image-cache-metrics")).unwrap();
    (cache, config, state)
}

fn commands() -> Completion {
    let timers: BTreeSet<_> = units("timer").iter().map(|path| path.file_stem().unwrap().to_owned()).collect();
    let (_cache, config, state) = configured();
    for unit in units("service") {
        assert!(timers.contains(unit.file_stem().unwrap()));
        let mut program = Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
        let arguments = command(&unit, &state);
        let output = program.args(&arguments).env("IMAGE_CACHE_CONFIG", &config).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        // Before there is a cache, a unit does not fail.
        let empty = state.join("empty");
        fs::create_dir_all(&empty).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
        program.args(&arguments).arg("-C").arg(&empty).env("IMAGE_CACHE_CONFIG", "/dev/null");
        let code = program.output().unwrap().status.code().unwrap();
        assert!(
            fs::read_to_string(&unit).unwrap().lines().any(|line| line == format!("SuccessExitStatus={code}")),
            "{code}"
        );
    }
    for name in ["image_cache.prom", "history.jsonl"] {
        assert!(state.join("image-cache-metrics").join(name).exists(), "{name}");
    }
    Completion::Completed
}

/// The system calls of a group of systemd, with those of the groups in it.
fn group(name: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(|name| if name.starts_with('@') { group(name) } else { BTreeSet::from([name.to_owned()]) }).collect()
}

fn system_calls() -> Completion {
    if let Some(skipped) = missing("systemd-analyze").or_else(|| missing("strace")) {
        return skipped;
    }
    let mut allowed = group("@system-service");
    for forbidden in ["@privileged", "@resources"] {
        let forbidden = group(forbidden);
        allowed.retain(|name| !forbidden.contains(name));
    }
    assert!(allowed.len() > 200, "{allowed:?}");
    let (cache, config, state) = configured();
    let trace = cache.file("trace");
    for unit in units("service") {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_image-cachectl"));
        strace.args(command(&unit, &state)).env("IMAGE_CACHE_CONFIG", &config);
        assert!(strace.output().unwrap().status.success());
        let text = fs::read_to_string(&trace).unwrap();
        let calls =
            text.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(')?.0.split(' ').next());
        let named = calls.filter(|name| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        });
        let refused: BTreeSet<_> = named.filter(|name| !allowed.contains(*name)).collect();
        assert_eq!(refused, BTreeSet::new(), "{}", unit.display());
    }
    Completion::Completed
}

fn tmpfiles() -> Completion {
    if let Some(skipped) = missing("systemd-tmpfiles") {
        return skipped;
    }
    if !nix::unistd::geteuid().is_root() {
        return Completion::ignored_with("needs root, to create files of another user");
    }
    let root = tempfile::tempdir().unwrap();
    let run = |action: &str, configurations: &[&Path]| {
        let mut command = Command::new("systemd-tmpfiles");
        let output = command.arg(action).arg("--root").arg(root.path()).args(configurations).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The user is one that is always there.
    let ours = root.path().join("image-cache.conf");
    let text = fs::read_to_string(repository("share/systemd/image-cache.tmpfiles.conf")).unwrap();
    fs::write(&ours, text.replace("image-cache image-cache", "root root")).unwrap();
    let aging = root.path().join("aging.conf");
    fs::write(&aging, "d /var/lib - - - 0\n").unwrap();
    fs::create_dir_all(root.path().join("var/lib")).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
    assert_eq!(run("--create", &[&ours]), "");
    let cache = root.path().join("var/lib/image-cache");
    let handle = image_cache::ImageCache::open(&cache, image_cache::Options::new()).unwrap();
    let mut writer = handle.begin_write("image").unwrap();
    writer.write_chunk(b"bytes").unwrap();
    writer.commit().unwrap();
    let other = root.path().join("var/lib/other");
    fs::write(&other, "").unwrap();
    run("--clean", &[&ours, &aging]);
    assert!(cache.join("image").exists() && cache.join(".image_cache/lock").exists());
    assert!(!other.exists(), "nothing was aged, so this test shows nothing");
    Completion::Completed
}

fn sysusers() -> Completion {
    if let Some(skipped) = missing("systemd-sysusers") {
        return skipped;
    }
    if !nix::unistd::geteuid().is_root() {
        return Completion::ignored_with("needs root");
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let configuration = fs::canonicalize(repository("share/systemd/image-cache.sysusers.conf")).unwrap();
    let mut command = Command::new("systemd-sysusers");
    let output = command.arg("--root").arg(root.path()).arg(&configuration).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(made.starts_with("image-cache:") && made.contains(":/var/lib/image-cache:"), "{made}");
    for unit in units("service") {
        assert!(fs::read_to_string(&unit).unwrap().lines().any(|line| line == "User=image-cache"));
    }
    Completion::Completed
}
