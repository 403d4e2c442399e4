//! An image that a restart of the host may have torn, and that cannot be removed. No call serves it, and each call counts it as not
//! cached. Once it can be removed, it can be cached again through a handle that is open all the while.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::process::Command;

use image_cache::ffi::writer::{image_cache_write_chunk, image_cache_writer_t};
use libtest_mimic::{Failed, Trial};

use crate::c::{
    Cache, IMAGE_CACHE_ERROR_IO, IMAGE_CACHE_ERROR_NOT_FOUND, IMAGE_CACHE_OK, image_cache_status_t, status,
};
use crate::disk::{Disk, FileSystem, disk, need};
use crate::fixture::{DONE, DRIVERS, Scratch, Test, compare, missing_tool, pretend_restart, run, trials as of};
use crate::one_bad_file::leave_unsynced;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 5] = [
        ("while_it_cannot_be_removed", stuck),
        ("is_written_again", |scratch| again(scratch, |cache| cache.put("torn", NEW).map_err(Failed::from))),
        ("is_teed_again", |scratch| again(scratch, tee)),
        ("is_fetched_again", |scratch| again(scratch, fetch_queued)),
        ("stays_queued", queued),
    ];
    of("torn_images", &DRIVERS, &tests)
}

const NEW: &[u8] = b"new bytes";

/// A disk with a torn image that is immutable.
fn leave_torn(scratch: &Scratch, disk: &Disk) -> Result<(), Failed> {
    drop(scratch.settings().open(&disk.cache())?);
    leave_unsynced(scratch.driver, &disk.cache(), &["torn"]);
    pretend_restart(&disk.cache());
    chattr("+i", &disk.cache())
}

fn chattr(flag: &str, directory: &Path) -> Result<(), Failed> {
    run(Command::new("chattr").arg(flag).arg(directory.join("torn"))).map(drop)
}

unsafe extern "C" fn read_new(data: *mut c_void, buffer: *mut c_void, length: usize) -> i64 {
    // SAFETY: the data is the number of bytes that were read, and the buffer has so many bytes.
    unsafe {
        let position = &mut *data.cast::<usize>();
        let piece = &NEW[*position..];
        let piece = &piece[..piece.len().min(length)];
        std::ptr::copy_nonoverlapping(piece.as_ptr(), buffer.cast(), piece.len());
        *position += piece.len();
        i64::try_from(piece.len()).unwrap()
    }
}

/// The tee must deliver all bytes.
fn tee(cache: &Cache) -> Result<(), Failed> {
    let (mut position, mut buffer, mut all) = (0_usize, [0; 4], Vec::new());
    let tee = cache.tee("torn", Some(read_new), (&raw mut position).cast())?;
    loop {
        let length = tee.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(all, NEW);
    Ok(())
}

unsafe extern "C" fn fetch(
    _: *mut c_void,
    _: *const c_char,
    writer: *mut image_cache_writer_t,
) -> image_cache_status_t {
    // SAFETY: the writer is lent, and the bytes are static.
    unsafe { image_cache_write_chunk(writer, NEW.as_ptr().cast(), NEW.len(), std::ptr::null_mut()) }
}

fn fetch_queued(cache: &Cache) -> Result<(), Failed> {
    assert!(cache.is_cacheable("torn")?);
    assert!(cache.queue("torn")?, "it can be queued");
    assert!(cache.is_queued("torn")?);
    assert_eq!(cache.prefetch(Some(fetch), std::ptr::null_mut())?, (1, 0));
    assert!(!cache.is_queued("torn")?);
    Ok(())
}

/// Every question has the same answer.
fn check_not_cached(cache: &Cache) -> Result<(), Failed> {
    assert!(!cache.is_cached("torn")?);
    assert_eq!(status(&cache.open_for_read("torn")), IMAGE_CACHE_ERROR_NOT_FOUND);
    assert_eq!(status(&cache.image_size("torn")), IMAGE_CACHE_ERROR_NOT_FOUND);
    assert_eq!((cache.hits("torn")?, cache.cache_size()?), (0, 0));
    assert!(cache.ids()?.is_empty());
    Ok(())
}

fn stuck(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    leave_torn(scratch, &disk)?;
    let cache = scratch.settings().open(&disk.cache())?;
    for _ in 0..2 {
        check_not_cached(&cache)?;
        let failure = cache.begin("torn").unwrap_err();
        assert_eq!((failure.status, failure.os_error), (IMAGE_CACHE_ERROR_IO, libc::EPERM), "{failure}");
        assert!(failure.message.contains("cannot remove") && failure.message.contains("torn"), "{failure}");
        assert!(!cache.is_cacheable("torn")? && !cache.queue("torn")?);
        tee(&cache)?;
    }
    DONE
}

fn again(scratch: &Scratch, put: fn(&Cache) -> Result<(), Failed>) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    leave_torn(scratch, &disk)?;
    let cache = scratch.settings().open(&disk.cache())?;
    check_not_cached(&cache)?;
    chattr("-i", &disk.cache())?;
    put(&cache)?;
    assert_eq!(cache.read("torn")?, NEW);
    assert_eq!(cache.hits("torn")?, 1);
    compare(&cache, &disk.cache())?;
    drop(cache);
    assert_eq!(scratch.settings().open(&disk.cache())?.read("torn")?, NEW);
    DONE
}

/// It was queued when the host restarted, and is fetched once it can be.
fn queued(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    leave_torn(scratch, &disk)?;
    std::fs::write(disk.cache().join("queue/torn"), b"")?;
    let cache = scratch.settings().open(&disk.cache())?;
    assert!(cache.is_queued("torn")?, "it stays queued");
    assert_eq!(cache.list_queued()?.len(), 1);
    assert_eq!(cache.prefetch(Some(fetch), std::ptr::null_mut())?, (0, 1));
    assert!(cache.is_queued("torn")?, "it stays queued");
    chattr("-i", &disk.cache())?;
    assert_eq!(cache.prefetch(Some(fetch), std::ptr::null_mut())?, (1, 0));
    assert_eq!(cache.read("torn")?, NEW);
    assert_eq!(status(&cache.begin("torn")), crate::c::IMAGE_CACHE_ERROR_ALREADY_CACHED);
    assert_eq!(status(&cache.delete("torn")), IMAGE_CACHE_OK);
    DONE
}
