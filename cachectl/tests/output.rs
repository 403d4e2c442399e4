//! What people and pipes see: 80 columns, colours, progress bars, and outputs that are closed or full.

mod common;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use common::{Cache, DRIVERS};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Every command that prints a page.
const PAGES: [&[&str]; 13] = [
    &["status"],
    &["list"],
    &["list", "--sort", "accessed"],
    &["list", "--incomplete"],
    &["list", "--invalid"],
    &["show", "short"],
    &["stats"],
    &["queue"],
    &["prune", "--to", "0", "--dry-run"],
    &["make-room", "1M", "--dry-run"],
    &["limit"],
    &["clean", "--dry-run"],
    &["delete", "--all", "--dry-run"],
];

/// A cache with images in all states, some with long and wide names.
fn filled(driver: &'static str) -> Cache {
    let cache = Cache::new(driver);
    let long = "x".repeat(255);
    for id in ["short", &long, "イメージ・イメージ・イメージ・イメージ・イメージ・イメージ・イメージ", "a b c d e f"]
    {
        cache.add(id, b"hello");
    }
    cache.run(&["pin", "short", "--for", "365d"]).expect(0);
    cache.run(&["queue", "add", &"q".repeat(255)]).expect(0);
    cache.run_with(&["add", &"f".repeat(200), "--digest", &"a".repeat(128)], b"hello").expect(5);
    cache
}

#[test]
fn pages_fit_80_columns() {
    for driver in DRIVERS {
        let cache = filled(driver);
        let agent = cache.open();
        let writer = agent.begin_write(&"i".repeat(255)).unwrap();
        for arguments in PAGES {
            // One image is pinned, so it is not among those that would be deleted.
            let page = cache.run(arguments).expect(if arguments[0] == "delete" { 4 } else { 0 }).stdout;
            assert!(!page.is_empty(), "{arguments:?}");
            for line in page.lines() {
                let whole = ["Directory", "File"].iter().any(|name| line.starts_with(name))
                    || line.trim().starts_with(&"f".repeat(60));
                let digest = line.split_whitespace().any(|word| word.len() > 70);
                assert!(whole || digest || columns(line) <= 80, "{arguments:?}: {} columns: {line}", columns(line));
            }
            assert!(!page.contains('\u{1b}'), "{arguments:?}: colours in a pipe");
        }
        // What is cut in a table is whole elsewhere.
        assert!(cache.run(&["list"]).stdout.contains("xx…"));
        assert!(cache.ids().contains(&"x".repeat(255)));
        writer.abort("the test ends");
    }
}

/// The width in a terminal: the letters of these tests are as wide as one or two columns.
fn columns(line: &str) -> usize {
    line.chars().map(|letter| if ('\u{3000}'..='\u{30ff}').contains(&letter) { 2 } else { 1 }).sum()
}

/// Both ends of a terminal of 80 columns.
fn terminal() -> (OwnedFd, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (controller, terminal)
}

/// Runs a command with stdout and stderr on a terminal, and returns what that shows.
fn on_terminal(command: &mut Command) -> String {
    let (controller, terminal) = terminal();
    let mut child = command
        .env("TERM", "xterm")
        .stdout(Stdio::from(terminal.try_clone().unwrap()))
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    // The last copies of the terminal are the child's: the read fails once it has ended.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut controller = File::from(controller);
    while let Ok(length @ 1..) = controller.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..length]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_terminal_has_colours_unless_no_color_is_set() {
    let cache = filled("sqlite");
    assert!(on_terminal(&mut cache.command(&["list"])).contains("\u{1b}[1mIMAGE"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_terminal(cache.command(&["list", "--no-progress"]).env(name, value));
        assert!(name == "TERM" || (shown.contains("IMAGE") && !shown.contains('\u{1b}')), "{name}: {shown:?}");
    }
    let shown = on_terminal(&mut cache.command(&["list", "--no-color"]));
    assert!(shown.contains("IMAGE") && !shown.contains('\u{1b}'), "{shown:?}");
    let shown = on_terminal(&mut cache.command(&["list", "--json"]));
    assert!(shown.contains("\"images\"") && !shown.contains('\u{1b}'), "{shown:?}");
}

/// Other programs write the attribute of a reason. It must neither control a terminal nor look like lines of ours.
#[test]
fn control_characters_of_others_are_escaped() {
    let cache = filled("xattr");
    let id = "f".repeat(200);
    let reason = "a\nb\r\u{1b}]0;title\u{7}\u{1b}[2J\u{7f}\u{9b}31m";
    let path = cache.directory().join("invalid").join(&id);
    rustix::fs::setxattr(path, "user.error", reason.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    for arguments in [["list", "--invalid", "--no-color"].as_slice(), &["show", &id, "--no-color"]] {
        let shown = on_terminal(&mut cache.command(arguments)).replace("\r\n", "");
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.contains(r"a\nb\r\u{1b}]0;title\u{7}\u{1b}[2J\u{7f}\u{9b}31m"), "{shown:?}");
        // The same bytes for programs.
        let json = cache.json(arguments);
        let found = json.pointer("/invalid/0/reason").or(json.pointer("/invalid/reason"));
        assert_eq!(found.and_then(serde_json::Value::as_str), Some(reason));
    }
    let failed = on_terminal(&mut cache.command(&["show", "a\u{1b}[2J", "--no-color"])).replace("\r\n", "");
    assert!(failed.contains(r"a\u{1b}[2J") && !failed.contains(char::is_control), "{failed:?}");
}

#[test]
fn long_work_has_a_bar_on_a_terminal_and_nothing_in_a_pipe() {
    let cache = Cache::new("sqlite");
    let path = cache.beside("large");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let shown = on_terminal(&mut cache.command(&["add", "large", path.to_str().unwrap()]));
    assert!(shown.contains("large [") && shown.contains("64.00 MiB"), "{shown:?}");
    let hidden = on_terminal(&mut cache.command(&["verify", "--no-progress"]));
    assert!(hidden.contains("1 image intact") && !hidden.contains("large"), "{hidden:?}");
    let piped = cache.run(&["add", "again", path.to_str().unwrap()]).expect(0);
    assert_eq!(piped.stderr, "");
}

/// A pipe without a reader.
fn closed_output() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_closed_output_ends_the_program_quietly() {
    let cache = filled("sqlite");
    for arguments in
        [["list"].as_slice(), &["list", "--json"], &["status"], &["export", "short", "-"], &["completions", "bash"]]
    {
        let mut child = cache.command(arguments).stdout(closed_output()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(141), ""), "{arguments:?}");
    }
    let mut help = cache.command(&["--help"]).stdout(closed_output()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(help.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_output_is_a_failure() {
    let cache = filled("sqlite");
    let path = cache.beside("new");
    std::fs::write(&path, b"hello").unwrap();
    for arguments in [
        ["list"].as_slice(),
        &["export", "short", "-"],
        &["add", "new", path.to_str().unwrap()],
        &["delete", "a b c d e f"],
        &["--help"],
        &["list", "--help"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = cache.command(arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("cannot write the output: No space left on device"), "{arguments:?}: {stderr}");
    }
    // The work is done: 6 would say that it had no room.
    assert!(cache.ids().contains(&"new".to_owned()) && !cache.ids().contains(&"a b c d e f".to_owned()));
    // A full stderr stops nothing.
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(cache.command(&["show", "absent"]).stderr(full).status().unwrap().code(), Some(3));
}
