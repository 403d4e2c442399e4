//! Which directory is a cache, and which driver it has. What is removed below a running handle is created again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use libtest_mimic::{Failed, Trial};

use crate::c::{
    Cache, IMAGE_CACHE_ERROR_BEING_CACHED, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, SQLITE, Settings, XATTR,
    XATTR_OR_SQLITE, status,
};
use crate::fixture::{DONE, DRIVERS, LENGTH, Scratch, Test, bytes, compare, files, trials as of};

const SUBDIRECTORIES: [&str; 3] = ["incomplete", "invalid", "queue"];
const OWN: &str = ".image_cache";

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 27] = [
        ("the_subdirectories_are_removed_below_a_handle", |scratch| removed(scratch, subdirectories)),
        ("our_subdirectory_is_removed_below_a_handle", |scratch| removed(scratch, own)),
        ("our_files_are_removed_below_a_handle", |scratch| removed(scratch, own_files)),
        ("our_files_are_replaced_below_a_handle", |scratch| removed(scratch, replace_own_files)),
        ("all_subdirectories_are_removed_below_a_handle", |scratch| removed(scratch, all)),
        ("handles_exclude_each_other_after_the_subdirectories_were_removed", |scratch| {
            excluded(scratch, subdirectories, false)
        }),
        ("handles_exclude_each_other_after_ours_was_removed", |scratch| excluded(scratch, own, true)),
        ("handles_exclude_each_other_after_our_files_were_removed", |scratch| excluded(scratch, own_files, true)),
        ("handles_exclude_each_other_after_our_files_were_replaced", |scratch| {
            excluded(scratch, replace_own_files, true)
        }),
        ("handles_exclude_each_other_after_all_were_removed", |scratch| excluded(scratch, all, false)),
        ("two_threads_begin_after_our_files_were_replaced", |scratch| raced(scratch, replace_own_files)),
        ("two_threads_begin_after_the_subdirectories_were_removed", |scratch| raced(scratch, subdirectories)),
        ("downloads_with_incomplete", |scratch| refused(scratch, &["incomplete"], &["film.mkv"])),
        ("downloads_with_two_subdirectories", |scratch| refused(scratch, &["incomplete", "queue"], &["film.mkv"])),
        ("downloads_with_others", |scratch| refused(scratch, &["music"], &["film.mkv", ".hidden"])),
        ("files_with_the_subdirectories_names", |scratch| refused(scratch, &[], &["incomplete", "invalid", "queue"])),
        ("our_mark_as_a_file", |scratch| refused(scratch, &[], &[OWN, "film.mkv"])),
        ("a_text_with_the_index_s_name", |scratch| refused(scratch, &[], &["cache.db", "film.mkv"])),
        ("another_program_s_database", foreign_database),
        ("our_index_alone", our_index),
        ("glance_s_three_subdirectories", |scratch| accepted(scratch, &SUBDIRECTORIES, &["image"])),
        ("our_mark_alone", |scratch| accepted(scratch, &[OWN], &["image"])),
        ("an_empty_directory", |scratch| accepted(scratch, &[], &[])),
        ("a_new_file_system", |scratch| accepted(scratch, &["lost+found"], &[])),
        ("another_driver", other_driver),
        ("another_driver_under_a_handle", other_driver_beside),
        ("either_driver_takes_the_former_one", either),
    ];
    let databases: [(&str, Test); 1] = [("another_database", other_database)];
    let mut trials = of("recognition", &DRIVERS, &tests);
    trials.extend(of("recognition", &[SQLITE], &databases));
    trials
}

/// What an operator or systemd-tmpfiles does to a directory below a running handle.
type Removal = fn(&Path);

fn subdirectories(directory: &Path) {
    for name in SUBDIRECTORIES {
        fs::remove_dir(directory.join(name)).unwrap();
    }
}

fn own(directory: &Path) {
    // A version without it has nothing to lose.
    let _ = fs::remove_dir_all(directory.join(OWN));
}

fn all(directory: &Path) {
    subdirectories(directory);
    own(directory);
}

/// The lock, among others.
fn files_of_own(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join(OWN)).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn own_files(directory: &Path) {
    for path in files_of_own(directory) {
        fs::remove_file(path).unwrap();
    }
}

/// As an editor or a restored backup does it.
fn replace_own_files(directory: &Path) {
    for path in files_of_own(directory) {
        let copy = directory.join(OWN).join(".copy");
        fs::copy(&path, &copy).unwrap();
        fs::rename(copy, path).unwrap();
    }
}

/// Every operation goes on, and each moves something through a subdirectory.
fn goes_on(cache: &Cache, directory: &Path, id: &str) -> Result<(), Failed> {
    cache.put(id, &bytes(id, LENGTH))?;
    assert_eq!(cache.read(id)?, bytes(id, LENGTH));
    drop(cache.begin("aborted")?);
    assert!(directory.join("invalid/aborted").exists(), "an aborted image is in invalid/");
    assert!(cache.queue("queued")?);
    assert_eq!(cache.list_queued()?.len(), 1);
    assert_eq!(cache.delete_all_queued()?, 1);
    assert_eq!(cache.clean()?, 1);
    cache.prune()?;
    cache.delete(id)?;
    compare(cache, directory)?;
    Ok(())
}

/// An operation with its name.
type First = (&'static str, fn(&Cache) -> Result<(), String>);

fn removed(scratch: &Scratch, removal: Removal) -> Result<Option<String>, Failed> {
    // Each operation is the first one once.
    let firsts: [First; 8] = [
        ("commit", |cache| cache.put("a", b"a").map_err(|failure| failure.to_string())),
        ("abort", |cache| cache.begin("a").map(drop).map_err(|failure| failure.to_string())),
        ("queue_image", |cache| cache.queue("a").map(drop).map_err(|failure| failure.to_string())),
        ("list_queued", |cache| cache.list_queued().map(drop).map_err(|failure| failure.to_string())),
        ("clean", |cache| cache.clean().map(drop).map_err(|failure| failure.to_string())),
        ("prune", |cache| cache.prune().map(drop).map_err(|failure| failure.to_string())),
        ("delete", |cache| cache.delete("old").map_err(|failure| failure.to_string())),
        ("list_cached", |cache| cache.list().map(drop).map_err(|failure| failure.to_string())),
    ];
    let mut failures = Vec::new();
    for (name, first) in firsts {
        let scratch = Scratch::new(scratch.driver);
        scratch.fill(&["old"]);
        let cache = scratch.open();
        compare(&cache, &scratch.path())?;
        removal(&scratch.path());
        let outcome = first(&cache).and_then(|()| {
            cache
                .clean()
                .and_then(|_| cache.delete_all_queued())
                .map_err(|failure| format!("afterwards: {failure}"))?;
            goes_on(&cache, &scratch.path(), "b").map_err(|failure| format!("{failure:?}"))?;
            let new = scratch.settings().open(&scratch.path()).map_err(|failure| format!("a new open: {failure}"))?;
            goes_on(&new, &scratch.path(), "c").map_err(|failure| format!("a new handle: {failure:?}"))
        });
        failures.extend(outcome.err().map(|failure| format!("{name} first: {failure}")));
    }
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}

/// One writer for an image, whichever handle is asked first.
fn excluded(scratch: &Scratch, removal: Removal, again: bool) -> Result<Option<String>, Failed> {
    let old = scratch.open();
    old.put("old", b"old")?;
    removal(&scratch.path());
    if scratch.driver == XATTR && names(&scratch.path()) == ["old"] {
        // Nothing tells it from another directory until the handle that is open has created something.
        old.clean()?;
        old.put("new", b"new")?;
    }
    let new = scratch.open();
    for (number, [first, second]) in [[&old, &new], [&new, &old]].into_iter().enumerate() {
        let id = format!("image-{number}");
        let writer = first.begin(&id)?;
        writer.write(b"first")?;
        let begun = second.begin(&id);
        assert_eq!(status(&begun), IMAGE_CACHE_ERROR_BEING_CACHED, "round {number}: {begun:?}");
        writer.commit()?;
        assert_eq!(second.read(&id)?, b"first");
    }
    compare(&old, &scratch.path())?;
    compare(&new, &scratch.path())?;
    // Again, while both are open and one writes. Its file is in a subdirectory, which then is not empty.
    let writer = new.begin("again")?;
    writer.write(b"again")?;
    if again {
        removal(&scratch.path());
        let begun = old.begin("again");
        assert_eq!(status(&begun), IMAGE_CACHE_ERROR_BEING_CACHED, "removed below a writer: {begun:?}");
    }
    writer.commit()?;
    compare(&old, &scratch.path())?;
    DONE
}

/// Both handles begin at the same moment: one of them gets each image.
fn raced(scratch: &Scratch, removal: Removal) -> Result<Option<String>, Failed> {
    const ROUNDS: usize = 100;
    let old = scratch.open();
    removal(&scratch.path());
    let new = scratch.open();
    let start = Barrier::new(2);
    let run = |cache: &Cache| {
        let mut begun = Vec::new();
        for round in 0..ROUNDS {
            start.wait();
            let writer = cache.begin(&format!("image-{round}"));
            let status = status(&writer);
            // Held until the other one has asked.
            start.wait();
            drop(writer);
            begun.push(status);
        }
        begun
    };
    let [one, two] = thread::scope(|scope| {
        let other = scope.spawn(|| run(&new));
        [run(&old), other.join().unwrap()]
    });
    for (round, both) in one.iter().zip(&two).enumerate() {
        let mut both = [*both.0, *both.1];
        both.sort_unstable();
        assert_eq!(both, [IMAGE_CACHE_ERROR_BEING_CACHED, 0], "round {round}");
    }
    DONE
}

fn make(scratch: &Scratch, directories: &[&str], files: &[&str]) -> Result<(), Failed> {
    fs::create_dir(scratch.path())?;
    for name in directories {
        fs::create_dir(scratch.file(name))?;
    }
    for name in files {
        fs::write(scratch.file(name), bytes(name, LENGTH))?;
    }
    Ok(())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused(scratch: &Scratch, directories: &[&str], files: &[&str]) -> Result<Option<String>, Failed> {
    make(scratch, directories, files)?;
    let before = names(&scratch.path());
    let opened = scratch.settings().max_size(0).open(&scratch.path());
    let failure = opened.map(drop).unwrap_err();
    assert_eq!(names(&scratch.path()), before, "nothing is created or removed");
    if files.contains(&"film.mkv") {
        assert_eq!(failure.status, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, "{failure}");
        assert!(failure.message.contains("no cache"), "{failure}");
    }
    DONE
}

/// A database whose tables are not Glance's makes no cache.
fn foreign_database(scratch: &Scratch) -> Result<Option<String>, Failed> {
    fs::create_dir(scratch.path())?;
    let sql = "CREATE TABLE app (text TEXT); INSERT INTO app VALUES ('mine')";
    rusqlite::Connection::open(scratch.file("cache.db"))?.execute_batch(sql)?;
    let before = fs::read(scratch.file("cache.db"))?;
    let failure = scratch.settings().max_size(0).open(&scratch.path()).map(drop).unwrap_err();
    assert!(failure.message.contains("no cache"), "{failure}");
    assert_eq!((fs::read(scratch.file("cache.db"))?, names(&scratch.path())), (before, vec!["cache.db".to_owned()]));
    DONE
}

/// Glance's and ours, in either encoding.
fn our_index(scratch: &Scratch) -> Result<Option<String>, Failed> {
    for encoding in ["UTF-8", "UTF-16"] {
        let scratch = Scratch::new(scratch.driver);
        make(&scratch, &[], &["image"])?;
        let sql = format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL \
             DEFAULT 0.0, last_modified REAL DEFAULT 0.0, size INTEGER DEFAULT 0, hits INTEGER DEFAULT 0, checksum TEXT)"
        );
        rusqlite::Connection::open(scratch.file("cache.db"))?.execute_batch(&sql)?;
        assert_eq!(scratch.settings().open(&scratch.path())?.ids()?, ["image"], "{encoding}");
    }
    DONE
}

fn accepted(scratch: &Scratch, directories: &[&str], images: &[&str]) -> Result<Option<String>, Failed> {
    make(scratch, directories, images)?;
    let cache = scratch.settings().open(&scratch.path())?;
    assert_eq!(cache.ids()?, images);
    goes_on(&cache, &scratch.path(), "new")?;
    assert_eq!(files(&scratch.path()).len(), images.len());
    DONE
}

fn refuses(settings: &Settings, directory: &Path) {
    let failure = settings.open(directory).map(drop).unwrap_err();
    assert_eq!(failure.status, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, "{failure}");
    // It says what to do.
    assert!(failure.message.contains("change_driver"), "{failure}");
}

fn other_driver(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["1", "2"]);
    let mut other = Settings::new(if scratch.driver == SQLITE { XATTR } else { SQLITE });
    refuses(&other, &scratch.path());
    let cache = scratch.open();
    assert_eq!((cache.ids()?, cache.hits("1")?), (vec!["1".to_owned(), "2".to_owned()], 1));
    drop(cache);
    other.change_driver = true;
    let cache = other.open(&scratch.path())?;
    assert_eq!(cache.ids()?, ["1", "2"], "the former index is no image");
    goes_on(&cache, &scratch.path(), "3")?;
    drop(cache);
    // It is kept, and now the former one is another.
    other.change_driver = false;
    other.open(&scratch.path())?;
    refuses(&scratch.settings(), &scratch.path());
    DONE
}

fn other_driver_beside(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["1"]);
    let cache = scratch.open();
    refuses(&Settings::new(if scratch.driver == SQLITE { XATTR } else { SQLITE }), &scratch.path());
    goes_on(&cache, &scratch.path(), "2")?;
    DONE
}

fn either(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["1"]);
    let cache = Settings::new(XATTR_OR_SQLITE).open(&scratch.path())?;
    assert_eq!(cache.hits("1")?, 1, "it is the driver that the directory was opened with before");
    DONE
}

fn other_database(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["1", "2"]);
    let mut other = scratch.settings();
    other.database = Some("other.db");
    refuses(&other, &scratch.path());
    assert!(!scratch.file("other.db").exists(), "a refused open creates nothing");
    other.change_driver = true;
    let cache = other.open(&scratch.path())?;
    assert_eq!(cache.ids()?, ["1", "2"], "the former database is no image");
    assert_eq!(cache.cache_size()?, 2 * LENGTH);
    drop(cache);
    refuses(&scratch.settings(), &scratch.path());
    DONE
}
