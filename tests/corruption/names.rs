//! Directory entries that are no images: the library never follows, serves, counts or deletes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use image_cache::{DriverChoice, Error, ImageCache, Options};
use libtest_mimic::{Failed, Trial};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("names::an_entry_that_is_no_image_is_never_followed_served_counted_or_deleted", odd_entries),
        Trial::test("names::a_hard_link_is_never_written_into", hard_links),
        Trial::test("names::the_directory_may_be_a_symbolic_link_its_subdirectories_may_not", symbolic_links),
        Trial::test("names::an_index_that_is_no_file_is_refused_and_left_alone", odd_index),
        Trial::test("names::the_default_index_is_no_image_for_a_handle_with_another_one", other_index),
    ]
}

const SUBDIRECTORIES: [&str; 4] = ["", "incomplete", "invalid", "queue"];

/// Names, and whether an image can have them.
fn names() -> Vec<(OsString, bool)> {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let long = "x".repeat(255);
    let mut names: Vec<_> = ["plain", "with space", "-rf", "*", "ünïcode", "a\u{202e}b", "CACHE.DB", "a.tmp~", &long]
        .iter()
        .map(|name| (OsString::from(name), true))
        .collect();
    names.extend(
        ["new\nline", "tab\tbed", ".hidden", "...", "bell\u{7}", "next\u{85}line", "cache.db-wal2\n", "\u{7f}"]
            .iter()
            .map(|name| (OsString::from(name), false)),
    );
    names.extend([&b"\xff\xfe"[..], b"half\xc3", b"\xed\xa0\x80", b"a\x01"].map(|name| (bytes(name), false)));
    names
}

const KINDS: [&str; 9] =
    ["file", "directory", "fifo", "socket", "link out", "link nowhere", "link to itself", "hard link", "device"];

/// Creates an entry of that kind; returns false where that is not possible.
fn put(kind: &str, path: &Path, outside: &Path) -> bool {
    let node = |file_type, device| mknodat(CWD, path, file_type, Mode::from_raw_mode(0o666), device).is_ok();
    match kind {
        "file" => fs::write(path, b"bytes").is_ok(),
        "directory" => fs::create_dir(path).is_ok() && fs::write(path.join("inside"), b"kept").is_ok(),
        "fifo" => node(FileType::Fifo, 0),
        // A socket's path must be short: it is bound elsewhere and moved.
        "socket" => {
            let short = outside.with_file_name("socket");
            UnixListener::bind(&short).is_ok() && fs::rename(short, path).is_ok()
        }
        "link out" => symlink(outside, path).is_ok(),
        "link nowhere" => symlink("/nowhere/at/all", path).is_ok(),
        "link to itself" => symlink(path.file_name().unwrap(), path).is_ok(),
        "hard link" => fs::hard_link(outside, path).is_ok(),
        _ => node(FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
    }
}

/// The entries of a directory, by name: inode and kind.
fn inventory(directory: &Path) -> BTreeMap<OsString, (u64, fs::FileType)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), (entry.metadata().unwrap().ino(), entry.file_type().unwrap()))).collect()
}

fn odd_entries() -> Result<(), Failed> {
    let mut count = 0;
    for driver in DRIVERS {
        for kind in KINDS {
            let scratch = Scratch::new(driver);
            let root = scratch.path().parent().unwrap().to_owned();
            let outside = root.join("outside");
            fs::write(&outside, b"precious").unwrap();
            drop(scratch.open());
            let mut images = BTreeSet::new();
            for subdirectory in SUBDIRECTORIES {
                for (name, can_be_image) in names() {
                    // Another name in each subdirectory, since an image has one state.
                    let suffix = subdirectory.get(..3).unwrap_or("").as_bytes();
                    let mut name = name.as_bytes().to_vec();
                    name.truncate(255 - suffix.len());
                    let name = OsString::from_vec([&name[..], suffix].concat());
                    if !put(kind, &scratch.path().join(subdirectory).join(&name), &outside) {
                        continue;
                    }
                    count += 1;
                    if can_be_image && ["file", "hard link"].contains(&kind) {
                        images.insert((subdirectory, name));
                    }
                }
            }
            let before: Vec<_> =
                SUBDIRECTORIES.iter().map(|subdirectory| inventory(&scratch.path().join(subdirectory))).collect();
            use_all(&scratch, &images, kind)?;
            // Images are gone; all other entries are unchanged.
            for (subdirectory, before) in SUBDIRECTORIES.iter().zip(before) {
                let after = inventory(&scratch.path().join(subdirectory));
                for (name, what) in before {
                    let was_image = images.contains(&(*subdirectory, name.clone()));
                    let is_index = name.as_bytes().starts_with(b"cache.db") && what.1.is_file();
                    if was_image == after.contains_key(&name) || (!was_image && !is_index && after[&name] != what) {
                        return Err(format!(
                            "{driver:?}: {kind} {subdirectory}/{} was image: {was_image}",
                            name.display()
                        )
                        .into());
                    }
                }
            }
            assert_eq!(fs::read(&outside).unwrap(), b"precious");
        }
    }
    println!("swept: names: {count} entries of other kinds");
    Ok(())
}

/// Queries everything, and deletes all images.
fn use_all(scratch: &Scratch, images: &BTreeSet<(&str, OsString)>, kind: &str) -> Result<(), Failed> {
    let count = |subdirectory: &str| images.iter().filter(|(of, _)| *of == subdirectory).count();
    let cache = scratch.open_with(scratch.options.clone().max_size(0));
    let cached: Vec<_> = images
        .iter()
        .filter(|(subdirectory, _)| subdirectory.is_empty())
        .map(|(_, name)| name.to_str().unwrap())
        .collect();
    assert_eq!(ids(&cache), cached);
    let length = if kind == "file" { 5 } else { 8 };
    assert_eq!(cache.cache_size()?, cached.len() as u64 * length);
    for (name, _) in names() {
        // C callers can pass only UTF-8; other names have no id.
        let Some(name) = name.to_str() else { continue };
        let is_image = cached.contains(&name);
        match cache.open_for_read(name) {
            Ok(reader) => assert!(is_image && reader.size() == length, "{name:?} {kind}"),
            Err(Error::NotFound { .. } | Error::InvalidImageId { .. }) => assert!(!is_image, "{name:?} {kind}"),
            Err(error) => return Err(format!("{name:?} {kind}: {error}").into()),
        }
        assert_eq!(cache.is_cached(name).unwrap_or(false), is_image);
        if !is_image
            && !matches!(cache.begin_write(name).map(drop), Err(Error::System { .. } | Error::InvalidImageId { .. }))
        {
            return Err(format!("begin_write of {name:?}, {kind}").into());
        }
        let _ = cache.delete_cached_image(if is_image { "another" } else { name });
    }
    assert_eq!(cache.list_queued()?.len(), count("queue"));
    assert_eq!(cache.delete_all_queued_images()?, count("queue") as u64);
    assert_eq!(cache.clean(Some(Duration::ZERO))?, (count("incomplete") + count("invalid")) as u64);
    if kind == "file" {
        assert_eq!(cache.prune()?.images, cached.len() as u64);
    } else {
        assert_eq!(cache.delete_all_cached_images()?, cached.len() as u64);
    }
    assert_eq!((ids(&cache).len(), cache.cache_size()?), (0, 0));
    Ok(())
}

fn hard_links() -> Result<(), Failed> {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let outside = scratch.path().parent().unwrap().join("outside");
        fs::write(&outside, b"precious").unwrap();
        let cache = scratch.open();
        cache_image(&cache, "cached", b"cached bytes");
        for (id, target) in [("1", outside.clone()), ("2", scratch.file("cached")), ("3", scratch.file("cache.db"))] {
            // The xattr driver has no index.
            let Ok(()) = fs::hard_link(&target, scratch.file(&format!("incomplete/{id}"))) else { continue };
            // It may be a live writer's of another program, until it is cleaned away.
            assert!(matches!(cache.begin_write(id), Err(Error::BeingCached(_))));
            assert!(cache.clean(Some(Duration::ZERO))? >= 1);
            for state in ["invalid", "queue"] {
                fs::hard_link(&target, scratch.file(&format!("{state}/{id}"))).unwrap();
            }
            let mut writer = cache.begin_write(id)?;
            writer.write_chunk(b"new")?;
            writer.abort("tested");
            cache_image(&cache, id, b"new bytes");
            assert_eq!(read_image(&cache, id), b"new bytes");
        }
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
        assert_eq!(read_image(&cache, "cached"), b"cached bytes");
        // A file with a hard link elsewhere is an image as well: a delete keeps its other name.
        fs::hard_link(&outside, scratch.file("linked")).unwrap();
        assert_eq!(read_image(&cache, "linked"), b"precious");
        let written = ids(&cache).iter().filter(|id| id.len() == 1).count() as u64;
        assert_eq!(cache.cache_size()?, 12 + written * 9 + 8);
        cache.clean(Some(Duration::ZERO))?;
        cache.delete_all_cached_images()?;
        assert_eq!((fs::read(&outside).unwrap().len(), fs::metadata(&outside).unwrap().nlink()), (8, 1));
        drop(cache);
        assert_eq!(ids(&scratch.open()).len(), 0);
    }
    Ok(())
}

fn symbolic_links() -> Result<(), Failed> {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        cache_image(&scratch.open(), "1", b"12345");
        let link = scratch.path().parent().unwrap().join("link");
        symlink(scratch.path(), &link).unwrap();
        let cache = ImageCache::open(&link, scratch.options.clone())?;
        assert_eq!(read_image(&cache, "1"), b"12345");
        cache_image(&cache, "2", b"x");
        drop(cache);
        assert_eq!(ids(&scratch.open()).len(), 2);
        for subdirectory in &SUBDIRECTORIES[1..] {
            let moved = scratch.path().parent().unwrap().join(subdirectory);
            fs::rename(scratch.file(subdirectory), &moved).unwrap();
            symlink(&moved, scratch.file(subdirectory)).unwrap();
            let refused = ImageCache::open(scratch.path(), scratch.options.clone());
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{subdirectory}: {refused:?}");
            fs::remove_file(scratch.file(subdirectory)).unwrap();
            fs::rename(&moved, scratch.file(subdirectory)).unwrap();
        }
    }
    Ok(())
}

/// Something else stands in place of the index, or of one of its files.
fn odd_index() -> Result<(), Failed> {
    let mut count = 0;
    for kind in &KINDS[1..] {
        for name in ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal"] {
            let scratch = Scratch::new(DriverChoice::Sqlite);
            let outside = scratch.path().parent().unwrap().join("outside");
            fs::write(&outside, b"precious").unwrap();
            cache_image(&scratch.open(), "1", b"12345");
            let _ = fs::remove_file(scratch.file(name));
            if !put(kind, &scratch.file(name), &outside) {
                continue;
            }
            count += 1;
            let opened = ImageCache::open(scratch.path(), scratch.options.clone());
            match opened {
                Ok(cache) => {
                    assert_eq!((ids(&cache), read_image(&cache, "1")), (vec!["1".to_owned()], b"12345".to_vec()));
                    cache_image(&cache, "2", b"x");
                    assert_eq!(cache.cache_size()?, 6);
                }
                Err(Error::Index { .. }) => {}
                Err(error) => return Err(format!("{kind} as {name}: {error}").into()),
            }
            // A hard link is the database's own file, by another name.
            if *kind != "hard link" {
                assert_eq!(fs::read(&outside).unwrap(), b"precious", "{kind} as {name}");
                assert_eq!(fs::read(scratch.file("1")).unwrap(), b"12345");
            }
            let what = fs::symlink_metadata(scratch.file(name)).map(|metadata| metadata.file_type());
            if let Ok(what) = what {
                let is_same = match *kind {
                    "directory" => what.is_dir(),
                    "fifo" => what.is_fifo(),
                    "socket" => what.is_socket(),
                    "device" => what.is_char_device(),
                    "hard link" => what.is_file(),
                    _ => what.is_symlink(),
                };
                assert!(is_same, "{kind} as {name}");
            }
        }
    }
    println!("swept: names: {count} things in place of the index's files");
    Ok(())
}

/// As an image, the index could be served or pruned.
fn other_index() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let first = scratch.open();
    cache_image(&first, "1", b"12345");
    let other = scratch.open_with(scratch.options.clone().database("other.db")?.change_driver(true).max_size(0));
    assert_eq!(ids(&other), ["1"]);
    for name in ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal"] {
        assert!(matches!(other.open_for_read(name), Err(Error::InvalidImageId { .. })));
        // No other index can have its name.
        assert_eq!(Options::new().database(name).is_ok(), name == "cache.db");
    }
    other.prune()?;
    assert!(scratch.file("cache.db").exists() && scratch.file("cache.db-journal").exists());
    assert_eq!(OsStr::new("cache.db"), scratch.file("cache.db").file_name().unwrap());
    drop(other);
    assert!(!first.is_cached("1")?);
    Ok(())
}
