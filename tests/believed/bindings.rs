//! A function of a binding returns a number by accident: Python's ctypes does so when it raises.

use std::ffi::{c_char, c_void};

use libtest_mimic::{Failed, Trial};

use crate::c::{
    IMAGE_CACHE_ERROR_INVALID_ARGUMENT, IMAGE_CACHE_ERROR_SIZE_MISMATCH, IMAGE_CACHE_ERROR_SOURCE, Tee, call, status,
};
use crate::fixture::{DONE, DRIVERS, Scratch, Test, compare, trials as of};
use image_cache::ffi::tee::image_cache_tee_refuse_empty;
use image_cache::ffi::writer::{image_cache_write_chunk, image_cache_writer_t};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 9] = [
        ("a_source_returns_more_than_asked", |scratch| accidents(scratch, 0)),
        ("a_source_returns_more_than_asked_later", |scratch| accidents(scratch, 3)),
        ("an_empty_source_is_refused", refused),
        ("a_source_that_is_not_empty_is_not_refused", not_refused),
        ("an_empty_source_is_cached_unless_refused", cached),
        ("refuse_empty_after_the_first_read", too_late),
        ("refuse_empty_without_a_tee", without_a_tee),
        ("a_fetch_returns_any_number", fetches),
        ("a_refused_image_can_be_cached_afterwards", afterwards),
    ];
    of("bindings", &DRIVERS, &tests)
}

/// What a source returns, one number after the other. The calls are counted.
struct Script {
    returns: Vec<i64>,
    calls: usize,
}

/// Fills what fits of what it returns.
unsafe extern "C" fn scripted(data: *mut c_void, buffer: *mut c_void, capacity: usize) -> i64 {
    // SAFETY: the test passes a script, and the library a buffer of that capacity.
    let (script, buffer) =
        unsafe { (&mut *data.cast::<Script>(), std::slice::from_raw_parts_mut(buffer.cast::<u8>(), capacity)) };
    let length = script.returns.get(script.calls).copied().unwrap_or(0);
    script.calls += 1;
    let filled = usize::try_from(length).unwrap_or(0).min(capacity);
    buffer[..filled].fill(b'x');
    length
}

fn tee(scratch: &Scratch, script: &mut Script) -> Result<(crate::c::Cache, Tee), Failed> {
    let cache = scratch.open();
    let tee = cache.tee("image", Some(scripted), (&raw mut *script).cast())?;
    Ok((cache, tee))
}

const CAPACITY: usize = 100;

fn accidents(scratch: &Scratch, good: usize) -> Result<Option<String>, Failed> {
    let capacity = i64::try_from(CAPACITY).unwrap();
    for number in [capacity + 1, 2 * capacity, 1 << 31, 1 << 32, 0x7fff_1234_5678, i64::MAX, i64::MIN, -1, -1234] {
        let scratch = Scratch::new(scratch.driver);
        let mut script = Script { returns: vec![capacity; good], calls: 0 };
        script.returns.push(number);
        let (cache, tee) = tee(&scratch, &mut script)?;
        let mut buffer = [0; CAPACITY];
        for _ in 0..good {
            assert_eq!(tee.read(&mut buffer)?, CAPACITY);
        }
        for _ in 0..3 {
            let failure = tee.read(&mut buffer).unwrap_err();
            assert_eq!(failure.status, IMAGE_CACHE_ERROR_SOURCE, "{number}: {failure}");
            assert!(failure.message.contains("source"), "{number}: {failure}");
        }
        drop(tee);
        assert_eq!(script.calls, good + 1, "{number}: the source is not called after a failure");
        assert!(!cache.is_cached("image")?, "{number}");
        compare(&cache, &scratch.path())?;
        cache.put("image", b"image")?;
    }
    DONE
}

fn refused(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let mut script = Script { returns: vec![0], calls: 0 };
    let (cache, tee) = tee(scratch, &mut script)?;
    tee.refuse_empty()?;
    for _ in 0..3 {
        let failure = tee.read(&mut [0; CAPACITY]).unwrap_err();
        assert_eq!(failure.status, IMAGE_CACHE_ERROR_SIZE_MISMATCH, "{failure}");
        assert!(failure.message.contains("empty"), "{failure}");
    }
    drop(tee);
    assert!(!cache.is_cached("image")?);
    compare(&cache, &scratch.path())?;
    DONE
}

fn not_refused(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let mut script = Script { returns: vec![1, 0], calls: 0 };
    let (cache, tee) = tee(scratch, &mut script)?;
    tee.refuse_empty()?;
    assert_eq!((tee.read(&mut [0; CAPACITY])?, tee.read(&mut [0; CAPACITY])?), (1, 0));
    assert_eq!(cache.read("image")?, b"x");
    drop(tee);
    DONE
}

fn cached(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let mut script = Script { returns: vec![0], calls: 0 };
    let (cache, tee) = tee(scratch, &mut script)?;
    assert_eq!(tee.read(&mut [0; CAPACITY])?, 0);
    assert_eq!(cache.image_size("image")?, 0);
    drop(tee);
    DONE
}

fn too_late(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let mut script = Script { returns: vec![5, 5, 0], calls: 0 };
    let (cache, tee) = tee(scratch, &mut script)?;
    assert_eq!(tee.read(&mut [0; CAPACITY])?, 5);
    assert_eq!(status(&tee.refuse_empty()), IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
    // The bytes are still handed on, and nothing is cached any more.
    assert_eq!((tee.read(&mut [0; CAPACITY])?, tee.read(&mut [0; CAPACITY])?), (5, 0));
    drop(tee);
    assert!(!cache.is_cached("image")?);
    DONE
}

fn without_a_tee(_: &Scratch) -> Result<Option<String>, Failed> {
    // SAFETY: NULL is allowed.
    let failure = call(|error| unsafe { image_cache_tee_refuse_empty(std::ptr::null_mut(), error) }).unwrap_err();
    assert_eq!(failure.status, IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
    assert!(failure.message.contains("tee is NULL"), "{failure}");
    DONE
}

/// Writes a piece, and returns the number behind `data`.
unsafe extern "C" fn fetch(data: *mut c_void, _id: *const c_char, writer: *mut image_cache_writer_t) -> i32 {
    // SAFETY: the test passes a number, and the library a writer.
    unsafe {
        image_cache_write_chunk(writer, c"piece".as_ptr().cast(), 5, std::ptr::null_mut());
        *data.cast::<i32>()
    }
}

fn fetches(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let cache = scratch.open();
    assert!(cache.queue("image")?);
    for number in [1, 7, -1, -13, -1234, i32::MAX, i32::MIN] {
        let mut returned = number;
        assert_eq!(cache.prefetch(Some(fetch), (&raw mut returned).cast())?, (0, 1), "{number}");
        assert!(!cache.is_cached("image")?, "{number}");
        assert_eq!(cache.list_queued()?.len(), 1, "{number}: it stays queued");
    }
    let mut success = 0_i32;
    assert_eq!(cache.prefetch(Some(fetch), (&raw mut success).cast())?, (1, 0));
    assert_eq!(cache.read("image")?, b"piece");
    DONE
}

fn afterwards(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let mut script = Script { returns: vec![0], calls: 0 };
    let (cache, empty) = tee(scratch, &mut script)?;
    empty.refuse_empty()?;
    assert_eq!(status(&empty.read(&mut [0; CAPACITY])), IMAGE_CACHE_ERROR_SIZE_MISMATCH);
    // Beside the tee that failed, which is open still.
    cache.put("image", b"image")?;
    drop(empty);
    assert_eq!(cache.read("image")?, b"image");
    DONE
}
