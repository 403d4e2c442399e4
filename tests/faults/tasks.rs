//! Tasks of child processes that several kinds of faults need.

use std::path::Path;

use crate::c::{Cache, Driver, Settings, status_of};
use crate::child::{listen, say};
use crate::operations;

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("use in rounds", [driver, directory]) => use_in_rounds(Driver::of_name(driver), Path::new(directory)),
        ("use beside a dead writer", [driver, directory]) => {
            use_beside_a_dead_writer(Driver::of_name(driver), Path::new(directory));
        }
        ("look for an image", [driver, directory, id]) => {
            let opened = Cache::open(Path::new(directory), Settings::new(Driver::of_name(driver)));
            match opened.and_then(|cache| cache.is_cached(id)) {
                Ok(true) => say("cached"),
                Ok(false) => say("not cached"),
                Err(failure) => say(&failure.to_string()),
            }
        }
        ("lock the database", [database]) => {
            let connection = rusqlite::Connection::open(database).unwrap();
            connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
            say("locked");
            listen();
        }
        ("begin to write", [driver, directory, id]) => {
            let cache = Cache::open(Path::new(directory), Settings::new(Driver::of_name(driver))).unwrap();
            say(&status_of(&cache.begin_write(id)).to_string());
        }
        _ => return false,
    }
    true
}

/// Calls everything whenever the parent says so.
fn use_in_rounds(driver: Driver, directory: &Path) {
    // Files that others may read.
    // SAFETY: the call takes a number.
    unsafe { libc::umask(0o022) };
    let cache = operations::open(directory, driver).unwrap();
    say("opened");
    while listen().is_some() {
        let failed = operations::ALL.iter().find_map(|(name, operation)| {
            let status = operation(&cache);
            (status != 0).then(|| format!("{name}: {status}"))
        });
        say(failed.as_deref().unwrap_or("all went well"));
    }
}

/// Image 1 has the incomplete file of a dead writer.
fn use_beside_a_dead_writer(driver: Driver, directory: &Path) {
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    let queued = cache.queue("1");
    let written = cache.write("1", b"hello");
    match (queued, written) {
        (Ok(true), Ok(())) => say("the image was queued, and written at once"),
        (queued, written) => say(&format!("queued: {queued:?}; written: {written:?}")),
    }
}
