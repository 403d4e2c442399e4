//! Tests that need a tool or root: manual pages and completions without errors, and a user who may not write. Without it, a test is ignored.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use common::{Cache, program, run};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a user types, as words of which the last one is incomplete, and what bash offers for it.
const COMPLETIONS: [(&str, &str); 5] = [
    ("ma", "make-room"),
    ("limit s", "show set"),
    ("list --so", "--sort"),
    ("make-room --dr", "--dry-run --driver"),
    ("queue remove --a", "--all"),
];

/// A user without a name.
const OWNER: u32 = 4_000_000;

type Outcome = Result<Completion, Failed>;

fn main() {
    let is_free = |_: &str| Ok(());
    let mandoc = |text: &str| {
        // Pages without a date are the same in each build.
        let wrong: Vec<_> = text.lines().filter(|line| !line.contains("missing date")).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong.join("\n"))) }
    };
    let trials = vec![
        Trial::ignorable_test("manual_pages_have_no_errors", move || {
            check("mandoc", &["-T", "lint", "-W", "warning"], "man1", false, mandoc)
        }),
        Trial::ignorable_test("bash_reads_its_completions", move || check("bash", &["-n"], "bash", true, is_free)),
        Trial::ignorable_test("bash_completes_commands_and_options", bash_completes),
        Trial::ignorable_test("zsh_reads_its_completions", move || check("zsh", &["-n"], "zsh", true, is_free)),
        Trial::ignorable_test("fish_reads_its_completions", move || {
            check("fish", &["--no-execute"], "fish", true, is_free)
        }),
        Trial::ignorable_test("a_user_who_may_not_write_can_look_and_changes_nothing", as_another_user),
        Trial::ignorable_test("what_root_does_in_a_cache_is_its_owner_s", as_root),
        Trial::ignorable_test("a_conversion_keeps_the_hits_of_another_users_images", of_another_user),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Runs a tool on each generated file of a directory.
fn check(
    tool: &str,
    arguments: &[&str],
    of: &str,
    must_succeed: bool,
    judge: impl Fn(&str) -> Result<(), Failed>,
) -> Outcome {
    let cache = Cache::absent("sqlite");
    let directory = cache.beside("generated");
    run(program().arg("generate").arg(&directory)).expect(0);
    let files: Vec<_> =
        fs::read_dir(directory.join(of))?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    assert!(!files.is_empty(), "{of} is empty");
    match Command::new(tool).args(arguments).args(files).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Completion::ignored_with(format!("{tool} is not installed")))
        }
        Err(error) => Err(error.into()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            if must_succeed && !output.status.success() {
                return Err(text.into());
            }
            judge(&text).map(|()| Completion::Completed)
        }
    }
}

/// Calls the function of the script as bash does.
fn bash_completes() -> Outcome {
    let script = run(program().args(["completions", "bash"])).expect(0).stdout;
    for (typed, offered) in COMPLETIONS {
        let words: Vec<_> = ["image-cachectl"].into_iter().chain(typed.split(' ')).collect();
        let [.., before, last] = words.as_slice() else { unreachable!() };
        let call = format!(
            "COMP_WORDS=({}); COMP_CWORD={}; _image__cachectl image-cachectl {last} {before}; echo \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let bash = Command::new("bash").args(["-c", &format!("{script}\n{call}")]).output();
        let output = match bash {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Completion::ignored_with("bash is not installed"));
            }
            output => output?,
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), offered, "{typed}");
    }
    Ok(Completion::Completed)
}

#[allow(clippy::unnecessary_wraps, reason = "the type of a trial")]
fn as_another_user() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("needs root, to act as another user"));
    }
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    // The way to the cache, and to a copy of the program, is open.
    let open = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(cache.scratch.path());
    let scratch = tempfile::tempdir().unwrap();
    open(scratch.path());
    let copy = scratch.path().join("image-cachectl");
    fs::copy(env!("CARGO_BIN_EXE_image-cachectl"), &copy).unwrap();
    let moved = scratch.path().join("cache");
    let copied = std::process::Command::new("cp").arg("-a").arg(cache.directory()).arg(&moved).status().unwrap();
    assert!(copied.success());
    for path in [&moved, &moved.join("1"), &moved.join("incomplete"), &moved.join("invalid"), &moved.join("queue")] {
        open(path);
    }
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        command.args(["--config", "/dev/null", "-C"]).arg(&moved).args(arguments);
        run(&mut command)
    };
    assert_eq!(as_nobody(&["list", "-q"]).expect(0).stdout, "1\n");
    as_nobody(&["status"]).expect(0);
    // Who may not read the pins is not told that there are none.
    let pins = moved.join(".image_cache/pins");
    fs::create_dir_all(&pins).unwrap();
    fs::set_permissions(&pins, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(as_nobody(&["list", "--json"]).expect(0).stdout.contains("\"pinned\": null"));
    fs::remove_dir(&pins).unwrap();
    as_nobody(&["show", "1"]).expect(0);
    as_nobody(&["export", "1", "-"]).expect(0);
    for arguments in [
        ["delete", "1"].as_slice(),
        &["pin", "1"],
        &["limit", "set", "1"],
        &["queue", "add", "2"],
        &["convert", "xattr"],
    ] {
        let refused = as_nobody(arguments);
        assert!(refused.code != 0, "{arguments:?}: {refused:?}");
    }
    assert_eq!(as_nobody(&["list", "-q"]).stdout, "1\n");
    fs::set_permissions(&moved, fs::Permissions::from_mode(0o700)).unwrap();
    let denied = as_nobody(&["status"]).expect(1);
    assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
    Ok(Completion::Completed)
}

/// Files of root in the cache of an agent would keep it out.
#[allow(clippy::unnecessary_wraps, reason = "the type of a trial")]
fn as_root() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("needs root, to make a cache of another user"));
    }
    for driver in common::DRIVERS {
        let cache = Cache::absent(driver);
        // Only root can read the image, and write beside the cache.
        let image = common::file(&cache.beside("image"), b"hello");
        fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
        cache.run(&["--driver", driver, "create", "--owner", &format!("{OWNER}:{OWNER}"), "--limit", "1G"]).expect(0);
        fs::set_permissions(cache.scratch.path(), fs::Permissions::from_mode(0o711)).unwrap();
        cache.run(&["add", "1", &image]).expect(0);
        cache.run(&["add", "2", &image, "--size", "6"]).expect(5);
        cache.run(&["pin", "1", "--for", "1h"]).expect(0);
        cache.run(&["queue", "add", "later"]).expect(0);
        cache.run(&["export", "1", "out"]).expect(0);
        cache.run(&["export", "1", "out"]).expect(4);
        cache.run(&["export", "1", "out", "--force"]).expect(0);
        cache.run(&["export", "1", "."]).expect(0);
        assert_eq!(fs::read(cache.beside("1")).unwrap(), b"hello");
        cache.run(&["export", "absent", "absent"]).expect(3);
        cache.run(&["convert", if driver == "sqlite" { "xattr" } else { "sqlite" }]).expect(0);
        let mut directories = vec![cache.directory()];
        let mut found = 0;
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
                assert_eq!((metadata.uid(), metadata.gid()), (OWNER, OWNER), "{}", path.display());
                found += 1;
                if metadata.is_dir() {
                    directories.push(path);
                }
            }
        }
        assert!(found > 8, "only {found} files");
        assert_eq!(fs::metadata(cache.beside("out")).unwrap().uid(), 0, "the export is the caller's");
        let mut names: Vec<_> =
            fs::read_dir(cache.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1", "cache", "image", "out"]);
    }
    Ok(Completion::Completed)
}

/// Only the owner of a file may set its access time. Its hits are carried over all the same.
#[allow(clippy::unnecessary_wraps, reason = "the type of a trial")]
fn of_another_user() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("needs root, to make files of two users"));
    }
    for (from, to) in [("sqlite", "xattr"), ("xattr", "sqlite")] {
        let cache = Cache::absent(from);
        cache.run(&["--driver", from, "create", "--owner", &format!("{OWNER}:{OWNER}")]).expect(0);
        cache.add("1", b"hello");
        for _ in 0..2 {
            cache.run(&["export", "1", "-"]).expect(0);
        }
        let file = cache.directory().join("1");
        std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        // Root acts as the owner of the directory.
        cache.run(&["convert", to]).expect(0);
        let listed = cache.run(&["list", "--json"]).expect(0).stdout;
        assert!(listed.contains("\"hits\": 2"), "from {from}: {listed}");
    }
    Ok(Completion::Completed)
}
