//! A message says what is wrong, with which file, and what to do. The reason is not cut off.

use std::any::Any;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use image_cache::ffi::bounds::*;
use image_cache::ffi::cache::*;
use image_cache::ffi::copy::{image_cache_export, image_cache_import};
use image_cache::ffi::list::image_cache_list_t;
use image_cache::ffi::maintenance::*;
use image_cache::ffi::pin::{image_cache_pin, image_cache_unpin};
use image_cache::ffi::query::*;
use image_cache::ffi::queue::*;
use image_cache::ffi::reader::*;
use image_cache::ffi::statistics::image_cache_get_statistics;
use image_cache::ffi::stream::*;
use image_cache::ffi::tee::*;
use image_cache::ffi::writer::image_cache_begin_write;
use libtest_mimic::{Failed, Trial};

use crate::c::{
    Failure, IMAGE_CACHE_ERROR_BEING_CACHED, IMAGE_CACHE_ERROR_FORKED, IMAGE_CACHE_ERROR_INDEX,
    IMAGE_CACHE_ERROR_INVALID_ARGUMENT, IMAGE_CACHE_ERROR_IO, SQLITE, Settings, call, image_cache_error_t,
    image_cache_status_t,
};
use crate::child::{Process, Task, output, say};
use crate::disk::text;
use crate::fixture::{DONE, DRIVERS, Scratch, Test, trials as of};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 15] = [
        ("queue_is_a_symbolic_link", |scratch| link(scratch, "queue")),
        ("incomplete_is_a_symbolic_link", |scratch| link(scratch, "incomplete")),
        ("invalid_is_a_symbolic_link", |scratch| link(scratch, "invalid")),
        ("queue_is_a_file", |scratch| file(scratch, "queue")),
        ("incomplete_is_a_file", |scratch| file(scratch, "incomplete")),
        ("the_directory_is_a_file", directory_is_a_file),
        ("an_out_parameter_is_null", nulls),
        ("a_parent_is_missing", missing_parent),
        ("being_cached_in_this_process", being_cached),
        ("being_cached_in_another_process", being_cached_elsewhere),
        ("a_long_path_of_a_missing_parent", |scratch| long_path(scratch, Long::MissingParent)),
        ("a_long_path_of_a_file", |scratch| long_path(scratch, Long::File)),
        ("a_long_path_of_a_subdirectory_that_is_a_link", |scratch| long_path(scratch, Long::Link)),
        ("a_long_path_of_no_cache", |scratch| long_path(scratch, Long::NoCache)),
        ("an_ended_handle_and_a_forked_one", ended_and_forked),
    ];
    let databases: [(&str, Test); 2] = [("the_database_is_a_directory", database), ("the_database_is_a_fifo", fifo)];
    let mut trials = of("messages", &DRIVERS, &tests);
    trials.extend(of("messages", &[SQLITE], &databases));
    trials
}

pub const TASKS: [(&str, Task); 2] = [("write_on", write_on), ("end_and_fork", end_and_fork)];

/// The message has one text of each group.
fn says(failure: &Failure, groups: &[&[&str]]) {
    for group in groups {
        let said = group.iter().any(|part| failure.message.to_lowercase().contains(&part.to_lowercase()));
        assert!(said, "the message has none of {group:?}: {failure}");
    }
    assert!(!failure.message.contains("''"), "the message has an empty name: {failure}");
}

fn fails(scratch: &Scratch) -> Failure {
    scratch.settings().open(&scratch.path()).map(drop).unwrap_err()
}

fn database(scratch: &Scratch) -> Result<Option<String>, Failed> {
    drop(scratch.open());
    for entry in fs::read_dir(scratch.path())?.map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("cache.db") {
            fs::remove_file(entry.path())?;
        }
    }
    fs::create_dir(scratch.file("cache.db"))?;
    let failure = fails(scratch);
    assert!([IMAGE_CACHE_ERROR_INDEX, IMAGE_CACHE_ERROR_IO].contains(&failure.status), "{failure}");
    says(
        &failure,
        &[&["cache.db"], &["is a directory", "no file", "not a file", "no regular file", "not a regular file"]],
    );
    DONE
}

fn fifo(scratch: &Scratch) -> Result<Option<String>, Failed> {
    fs::create_dir(scratch.path())?;
    crate::fixture::run(std::process::Command::new("mkfifo").arg(scratch.file("cache.db")))?;
    fs::create_dir(scratch.file(".image_cache"))?;
    let failure = fails(scratch);
    says(&failure, &[&["cache.db"], &["fifo", "no file", "not a file", "no regular file", "not a regular file"]]);
    DONE
}

fn link(scratch: &Scratch, name: &str) -> Result<Option<String>, Failed> {
    drop(scratch.open());
    let target = scratch.root().join("target");
    fs::rename(scratch.file(name), &target)?;
    symlink(target, scratch.file(name))?;
    let failure = fails(scratch);
    assert_eq!(failure.status, IMAGE_CACHE_ERROR_IO, "{failure}");
    says(&failure, &[&[name], &["symbolic link", "symlink"]]);
    DONE
}

fn file(scratch: &Scratch, name: &str) -> Result<Option<String>, Failed> {
    drop(scratch.open());
    fs::remove_dir(scratch.file(name))?;
    fs::write(scratch.file(name), b"")?;
    says(&fails(scratch), &[&[name], &["is a file", "is no directory", "is not a directory", "not a directory"]]);
    DONE
}

fn directory_is_a_file(scratch: &Scratch) -> Result<Option<String>, Failed> {
    fs::write(scratch.path(), b"")?;
    says(&fails(scratch), &[&["cache'"], &["is a file", "is no directory", "not a directory"]]);
    DONE
}

/// A function whose out parameter is NULL, and the parameter's name.
type Null<'a> = (&'static str, &'a dyn Fn(*mut image_cache_error_t) -> image_cache_status_t);

fn nulls(scratch: &Scratch) -> Result<Option<String>, Failed> {
    unsafe extern "C" fn source(_: *mut std::ffi::c_void, _: *mut std::ffi::c_void, _: usize) -> i64 {
        0
    }
    unsafe extern "C" fn range(_: *mut std::ffi::c_void, _: u64, _: *mut std::ffi::c_void, _: usize) -> i64 {
        0
    }
    unsafe extern "C" fn fetch(
        _: *mut std::ffi::c_void,
        _: *const std::ffi::c_char,
        _: *mut image_cache::ffi::writer::image_cache_writer_t,
    ) -> i32 {
        0
    }
    let (cache, id, other) = (scratch.open(), c"image".as_ptr(), scratch.root().join("other"));
    cache.put("image", b"image")?;
    let reader = cache.open_for_read("image")?;
    let tee = cache.tee("teed", Some(source), null_mut())?;
    let directory = std::ffi::CString::new(text(&other)).unwrap();
    let (c, mut number, mut buffer) = (cache.0, 0, [0_u8; 8]);
    let (number, to) = (&raw mut number, buffer.as_mut_ptr().cast());
    // SAFETY: each pointer is NULL, a handle that is open, or a local variable's.
    let nulls: &[Null] = unsafe {
        &[
            ("cache", &|e| image_cache_open(directory.as_ptr(), null_mut(), null_mut(), e)),
            ("answer", &|e| image_cache_is_cached(c, id, null_mut(), e)),
            ("answer", &|e| image_cache_is_being_cached(c, id, null_mut(), e)),
            ("answer", &|e| image_cache_is_queued(c, id, null_mut(), e)),
            ("answer", &|e| image_cache_is_cacheable(c, id, null_mut(), e)),
            ("bytes", &|e| image_cache_get_cache_size(c, null_mut(), e)),
            ("bytes", &|e| image_cache_get_image_size(c, id, null_mut(), e)),
            ("hits", &|e| image_cache_get_hit_count(c, id, null_mut(), e)),
            ("list", &|e| image_cache_list_cached(c, null_mut::<*mut image_cache_list_t>(), e)),
            ("list", &|e| image_cache_list_queued(c, null_mut(), e)),
            ("list", &|e| image_cache_list_incomplete(c, null_mut(), e)),
            ("list", &|e| image_cache_list_invalid(c, null_mut(), e)),
            ("list", &|e| image_cache_get_image(c, id, null_mut(), e)),
            ("writer", &|e| image_cache_begin_write(c, c"new".as_ptr(), null_mut(), e)),
            ("reader", &|e| image_cache_open_for_read(c, id, null_mut(), e)),
            ("length", &|e| image_cache_read(reader.0, to, 8, null_mut(), e)),
            ("length", &|e| image_cache_read_at(reader.0, 0, to, 8, null_mut(), e)),
            ("done", &|e| image_cache_import(c, c"new".as_ptr(), 0, 0, std::ptr::null(), 0, null_mut(), e)),
            ("done", &|e| image_cache_export(c, id, 2, 0, std::ptr::null(), 0, null_mut(), e)),
            ("tee", &|e| image_cache_tee_open(c, id, Some(source), null_mut(), null_mut(), e)),
            ("stream", &|e| image_cache_stream_open(c, id, Some(range), null_mut(), null_mut(), e)),
            ("cached", &|e| image_cache_wait_cached(c, id, 0, null_mut(), e)),
            ("length", &|e| image_cache_tee_read(tee.0, to, 8, null_mut(), e)),
            ("queued", &|e| image_cache_queue_image(c, id, null_mut(), e)),
            ("deleted", &|e| image_cache_delete_all_queued_images(c, null_mut(), e)),
            ("deleted", &|e| image_cache_delete_all_cached_images(c, null_mut(), e)),
            ("fetched", &|e| image_cache_prefetch(c, Some(fetch), null_mut(), null_mut(), number, e)),
            ("failed", &|e| image_cache_prefetch(c, Some(fetch), null_mut(), number, null_mut(), e)),
            ("images", &|e| image_cache_prune(c, null_mut(), number, e)),
            ("bytes", &|e| image_cache_prune(c, number, null_mut(), e)),
            ("images", &|e| image_cache_prune_to(c, 0, null_mut(), number, e)),
            ("freed", &|e| image_cache_prune_to(c, 0, number, null_mut(), e)),
            ("images", &|e| image_cache_make_room(c, 0, null_mut(), number, e)),
            ("freed", &|e| image_cache_make_room(c, 0, number, null_mut(), e)),
            ("usage", &|e| image_cache_get_usage(c, null_mut(), 8, e)),
            ("removed", &|e| image_cache_clean(c, -1, null_mut(), e)),
            ("statistics", &|e| image_cache_get_statistics(c, null_mut(), 8, e)),
            ("holder", &|e| image_cache_pin(c, id, std::ptr::null(), 1, e)),
            ("holder", &|e| image_cache_unpin(c, id, std::ptr::null(), e)),
        ]
    };
    for (name, function) in nulls {
        let failure = call(function).unwrap_err();
        assert_eq!(failure.status, IMAGE_CACHE_ERROR_INVALID_ARGUMENT, "{name}: {failure}");
        assert!(failure.message.contains(&format!("{name} is NULL")), "{name}: {failure}");
    }
    assert_eq!(cache.ids()?, ["image"], "a refused call does nothing");
    DONE
}

fn missing_parent(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let failure = scratch.settings().open(&scratch.path().join("a/b")).map(drop).unwrap_err();
    assert_eq!((failure.status, failure.os_error), (IMAGE_CACHE_ERROR_IO, libc::ENOENT), "{failure}");
    says(&failure, &[&["parent"], &["not created", "create it"]]);
    DONE
}

/// Who has the image, and since when.
fn check_being_cached(failure: &Failure, process: u32) {
    assert_eq!(failure.status, IMAGE_CACHE_ERROR_BEING_CACHED, "{failure}");
    let is_letter = |letter: char| !letter.is_ascii_digit();
    let numbers: Vec<_> = failure.message.split(is_letter).filter(|number| !number.is_empty()).collect();
    assert!(numbers.contains(&process.to_string().as_str()), "the message does not name process {process}: {failure}");
    says(failure, &[&["since", " s", "second", "ago"], &["process"]]);
    assert!(numbers.len() > 1, "the message has no time: {failure}");
}

fn being_cached(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let (cache, other) = (scratch.open(), scratch.open());
    let writer = cache.begin("image")?;
    writer.write(b"image")?;
    for handle in [&cache, &other] {
        check_being_cached(&handle.begin("image").map(drop).unwrap_err(), std::process::id());
    }
    DONE
}

fn being_cached_elsewhere(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let writer = Process::start("write_on", &[text(&scratch.path()), &scratch.driver.to_string()]);
    check_being_cached(&scratch.open().begin("image").map(drop).unwrap_err(), writer.id());
    DONE
}

fn write_on(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).open(Path::new(directory)).unwrap();
    let writer = cache.begin("image").unwrap();
    writer.write(b"image").unwrap();
    Box::new((writer, cache))
}

/// What is wrong at the end of a path of almost 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Long {
    MissingParent,
    File,
    Link,
    NoCache,
}

fn long_path(scratch: &Scratch, wrong: Long) -> Result<Option<String>, Failed> {
    // Two bytes each, so that a cut may fall into a character.
    let name = "\u{e9}".repeat(100);
    let mut path: PathBuf = scratch.root().to_owned();
    while path.as_os_str().len() + name.len() < 3990 {
        path.push(&name);
    }
    fs::create_dir_all(&path)?;
    let cache = path.join("cache");
    let reason: &[&str] = match wrong {
        Long::MissingParent => &["parent"],
        Long::File => {
            fs::write(&cache, b"")?;
            &["not a directory", "no directory", "is a file"]
        }
        Long::Link => {
            ["", "incomplete", "invalid"].iter().try_for_each(|name| fs::create_dir(cache.join(name)))?;
            symlink("invalid", cache.join("queue"))?;
            &["symbolic link", "symlink"]
        }
        Long::NoCache => {
            fs::create_dir(&cache)?;
            fs::write(cache.join("film.mkv"), b"film")?;
            &["no cache"]
        }
    };
    let directory = if wrong == Long::MissingParent { cache.join("a/b") } else { cache };
    // A path that is too long for SQLite is no concern here.
    let failure = Settings::new(scratch.driver).open(&directory).map(drop).unwrap_err();
    assert!(failure.message.len() <= 503, "{failure}");
    says(&failure, &[reason]);
    DONE
}

fn ended_and_forked(scratch: &Scratch) -> Result<Option<String>, Failed> {
    // In a process of its own: the memory of an ended handle must not be used again meanwhile.
    let said = output("end_and_fork", &[text(&scratch.path()), &scratch.driver.to_string()])?;
    let [ended, forked] = said.lines().collect::<Vec<_>>()[..] else { return Err(said.into()) };
    assert!(ended.starts_with(&format!("{IMAGE_CACHE_ERROR_INVALID_ARGUMENT} ")), "ended: {ended}");
    assert!(ended.contains("ended") && !ended.contains("fork"), "ended: {ended}");
    assert!(forked.starts_with(&format!("{IMAGE_CACHE_ERROR_FORKED} ")), "forked: {forked}");
    assert!(forked.contains("fork") && !forked.contains("ended"), "forked: {forked}");
    DONE
}

fn end_and_fork(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).open(Path::new(directory)).unwrap();
    let show = |failure: Failure| format!("{failure}\n");
    let mut ends = [0; 2];
    // SAFETY: this process has one thread. The child only calls the library, writes, and ends.
    let forked = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let [mut read, mut write] = ends.map(|end| fs::File::from_raw_fd(end));
        let child = libc::fork();
        if child == 0 {
            let _ = write.write_all(show(cache.cache_size().unwrap_err()).as_bytes());
            libc::_exit(0);
        }
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        libc::waitpid(child, null_mut(), 0);
        text
    };
    let handle = cache.0;
    drop(cache);
    let mut bytes = 0;
    // SAFETY: the header says what happens to one that was ended, as long as its memory is not used again.
    let ended = call(|error| unsafe { image_cache_get_cache_size(handle, &raw mut bytes, error) });
    say(&show(ended.unwrap_err()).replace('\n', ""));
    say(forked.trim_end());
    Box::new(())
}
