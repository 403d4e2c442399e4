//! Threads that act at the same moment, each with its own handle, so that the locks between processes are at work as
//! well. And the checks after a round.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};

use image_cache::{Error, ImageCache};

use crate::checks::{check_image, check_listing};
use crate::common::{Scratch, files, read_image};
use crate::content::{self, Version};

/// What a thread does in a round, by the round's number.
type Function<'a> = dyn Fn(&ImageCache, u64) + Sync + 'a;

/// Runs each function in a thread with its own handle, round after round, and `check` after each round. A panic ends
/// the rounds, and no thread stays at a barrier.
pub fn race<const N: usize>(scratch: &Scratch, rounds: u64, functions: [&Function<'_>; N], mut check: impl FnMut(u64)) {
    let (start, end) = (Barrier::new(N + 1), Barrier::new(N + 1));
    let failure = Mutex::new(None::<Box<dyn std::any::Any + Send>>);
    let is_over = AtomicBool::new(false);
    let attempt = |work: &mut dyn FnMut()| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            *failure.lock().unwrap() = Some(panic);
        }
    };
    std::thread::scope(|scope| {
        for function in functions {
            let (start, end, is_over, attempt) = (&start, &end, &is_over, &attempt);
            scope.spawn(move || {
                let cache = scratch.open();
                for round in 0.. {
                    start.wait();
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    attempt(&mut || function(&cache, round));
                    end.wait();
                }
            });
        }
        for round in 0..rounds {
            start.wait();
            end.wait();
            if failure.lock().unwrap().is_none() {
                attempt(&mut || check(round));
            }
            if failure.lock().unwrap().is_some() {
                break;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        start.wait();
    });
    if let Some(panic) = failure.into_inner().unwrap() {
        resume_unwind(panic);
    }
}

pub fn version(number: u64) -> Version {
    Version::new(0, 0, number, true)
}

/// A version that takes many writes.
pub fn long_version(number: u64) -> Version {
    (number..number + 1000).map(version).find(|version| version.length() > 100_000).unwrap()
}

pub fn publish(cache: &ImageCache, image_id: &str, version: Version) -> Result<(), Error> {
    let mut writer = cache.begin_write(image_id)?;
    for chunk in version.bytes(image_id).chunks(10_000) {
        writer.write_chunk(chunk)?;
    }
    writer.commit()
}

/// Panics on any other error.
pub fn tolerate(result: Result<(), Error>, tolerated: fn(&Error) -> bool) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if tolerated(&error) => false,
        Err(error) => panic!("{error:?}"),
    }
}

pub fn is_taken(error: &Error) -> bool {
    matches!(error, Error::AlreadyCached(_) | Error::BeingCached(_))
}

pub fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Lost { .. })
}

/// Listing, files and cache size agree, every file is one writer's, and no incomplete file is left.
pub fn assert_exact(scratch: &Scratch, cache: &ImageCache) {
    for image in check_listing(&scratch.path(), cache).unwrap() {
        let bytes = read_image(cache, &image.image_id);
        check_image(&image, &bytes).unwrap();
        content::verify(&image.image_id, &bytes).unwrap();
    }
    assert_eq!(files(&scratch.file("incomplete")), Vec::<String>::new());
}

pub fn assert_quiet(scratch: &Scratch) {
    let messages = scratch.messages.lock().unwrap();
    let is_unexpected = |message: &&String| message.contains("rebuilt") || message.contains("later");
    assert_eq!(messages.iter().find(is_unexpected), None);
}
