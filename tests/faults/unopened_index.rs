//! An index that cannot be opened at the moment: the log says what failed, and a later use opens it.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings, logged};
use crate::child::{ChildProcess, listen, say};
use crate::machine::{Need, command, scratch, text, trial};

pub fn trials_of_kind() -> Vec<Trial> {
    let of = |error: &'static str| {
        let name = format!("unopened_index::the_open_fails_once_with_{error}::sqlite");
        trial(&name, &[Need::Tool("strace")], move || fails_once(error))
    };
    let locked = trial("unopened_index::another_program_has_it_locked::sqlite", &[], locked);
    let waited = trial("unopened_index::a_query_that_waits_for_a_lock_says_so_once::sqlite", &[], waits_for_a_lock);
    ["EROFS", "EIO", "EACCES"].map(of).into_iter().chain([locked, waited]).collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("open and use", [directory]) => open_and_use(Path::new(directory)),
        ("read, and count hits when told", [directory]) => count_when_told(Path::new(directory)),
        _ => return false,
    }
    true
}

fn open_and_use(directory: &Path) {
    let cache = match Cache::open(directory, Settings::new(Driver::Sqlite)) {
        Ok(cache) => cache,
        Err(failure) => return say(&format!("open: {failure}")),
    };
    let messages = logged();
    let hits = cache.hit_count("1");
    say(&format!("size {:?}, hits {hits:?}; {messages}", cache.size()));
}

/// A closed cache with an image that has one hit.
fn fill(directory: &Path) -> Result<(), Failed> {
    let cache = Cache::open(directory, Settings::new(Driver::Sqlite).durable())?;
    cache.write("1", b"hello")?;
    cache.read("1")?;
    Ok(())
}

/// The first call by which SQLite opens the database fails.
fn fails_once(error: &str) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    fill(&directory)?;
    let trace = scratch.path().join("trace");
    let run = |inject: &[&str]| {
        let mut strace = command("strace");
        strace.args(["-f", "-qq", "-o", text(&trace), "-e", "trace=openat"]).args(inject);
        strace.arg(std::env::current_exe().unwrap()).arg(text(&directory));
        let mut child = ChildProcess::spawn("open and use", &mut strace);
        let said = child.hear()?;
        child.finish()?;
        Ok::<_, Failed>(said)
    };
    let said = run(&[])?;
    assert!(said.starts_with("size Ok(5), hits Ok(1)"), "{said}");
    let trace = fs::read_to_string(&trace).unwrap();
    let is_the_open = |call: &str| call.contains("/cache.db\"") && call.contains("O_RDWR");
    let number = 1 + trace.lines().position(is_the_open).ok_or("the database is not opened")?;
    let said = run(&["-e", &format!("inject=openat:error={error}:when={number}")])?;
    assert!(said.starts_with("size Ok(5), hits Ok(1)"), "the index is opened later: {said}");
    assert!(said.contains("for reading only") && said.contains("until it can be opened"), "{said}");
    assert!(!said.contains("another program"), "no other program is there: {said}");
    assert!(!said.contains("damaged"), "it is not damaged: {said}");
    Ok(())
}

fn locked() -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    fill(&directory)?;
    let mut foreign = ChildProcess::start("lock the database", &[text(&directory.join("cache.db"))]);
    foreign.expect("locked")?;
    let mut child = ChildProcess::start("open and use", &[text(&directory)]);
    let said = child.hear()?;
    assert!(said.starts_with("size Ok(5)"), "{said}");
    assert!(said.contains("it is locked by another program") && said.contains("until it can be opened"), "{said}");
    assert!(!said.contains("damaged"), "a lock is no damage: {said}");
    child.finish()?;
    foreign.finish()?;
    assert_eq!(Cache::open(&directory, Settings::new(Driver::Sqlite))?.hit_count("1")?, 1);
    Ok(())
}

fn count_when_told(directory: &Path) {
    let cache = Cache::open(directory, Settings::new(Driver::Sqlite)).unwrap();
    say("opened");
    listen();
    // A hit to be written.
    cache.read("1").unwrap();
    let before = logged().lines().count();
    let hits = cache.hit_count("1");
    let messages = logged().lines().count() - before;
    say(&format!("counted: {}, messages: {messages}", hits.is_ok()));
}

/// The query is repeated for 2 s. Its messages are not.
fn waits_for_a_lock() -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    fill(&directory)?;
    let mut child = ChildProcess::start("read, and count hits when told", &[text(&directory)]);
    child.expect("opened")?;
    let mut foreign = ChildProcess::start("lock the database", &[text(&directory.join("cache.db"))]);
    foreign.expect("locked")?;
    child.tell("count")?;
    let said = child.hear()?;
    let messages = said.strip_prefix("counted: false, messages: ").and_then(|number| number.parse::<usize>().ok());
    assert!(messages.is_some_and(|messages| (1..=4).contains(&messages)), "{said}");
    child.finish()?;
    foreign.finish()
}
