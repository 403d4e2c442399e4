//! Every pair of operations, interleaved. The first operation runs to a point (see `points`). There the second one
//! runs, until it ends or waits for the first. Then the first goes on. At every point, results and end state equal
//! those of the two in sequence, in one order or the other.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::mpsc;
use std::thread;

use image_cache::{DriverChoice, ImageCache, Result};

use crate::caches::{AT_ONCE, name_of};
use crate::checks::{check_image, check_listing, read_without_atime};
use crate::common::{Scratch, cache_image, files, leave_by_dead_writer};
use crate::history::wall_clock;
use crate::points::{Progress, with_interleaved, with_progress};

/// The image of all operations. Another image is always there.
const IMAGE: &str = "disputed";
const BYSTANDER: &str = "bystander";

/// What an operation returned, and the handle that it left open.
type Returned = (String, Option<Box<dyn Any + Send>>);
/// An operation that is ready to run.
type Prepared = Box<dyn FnOnce(&ImageCache) -> Returned + Send>;
/// Prepares an operation; `None` where that is not possible.
type Prepare = fn(&ImageCache, &'static [u8]) -> Option<Prepared>;
/// An operation with its name.
type Named = (&'static str, Prepare);
/// Creates the state in which two operations begin.
type State = fn(&Scratch, &ImageCache);

fn text<T>(result: Result<T>, say: impl FnOnce(T) -> String) -> Returned {
    (result.map_or_else(|error| name_of(&error), say), None)
}

fn holding<T: Send + 'static>(result: Result<T>) -> Returned {
    match result {
        Ok(handle) => ("a handle".to_owned(), Some(Box::new(handle))),
        Err(error) => (name_of(&error), None),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what most operations of the table end with")]
fn simple(operation: impl FnOnce(&ImageCache) -> Returned + Send + 'static) -> Option<Prepared> {
    Some(Box::new(operation))
}

const OPERATIONS: &[Named] = &[
    ("begin_write", |_, _| simple(|cache| holding(cache.begin_write(IMAGE)))),
    ("commit", |cache, bytes| {
        let mut writer = cache.begin_write(IMAGE).ok()?;
        writer.write_chunk(bytes).unwrap();
        simple(|_| text(writer.commit(), |()| "committed".into()))
    }),
    ("abort", |cache, _| {
        let writer = cache.begin_write(IMAGE).ok()?;
        simple(|_| {
            writer.abort("the pair aborts");
            ("aborted".to_owned(), None)
        })
    }),
    ("open_for_read", |_, _| simple(|cache| holding(cache.open_for_read(IMAGE)))),
    ("close a reader", |cache, _| {
        let reader = cache.open_for_read(IMAGE).ok()?;
        simple(|_| {
            drop(reader);
            ("closed".to_owned(), None)
        })
    }),
    ("delete", |_, _| simple(|cache| text(cache.delete_cached_image(IMAGE), |()| "done".into()))),
    ("delete_all", |_, _| simple(|cache| text(cache.delete_all_cached_images(), |count| format!("{count}")))),
    ("prune", |_, _| simple(|cache| text(cache.prune(), |pruned| format!("{pruned:?}")))),
    ("clean", |_, _| simple(|cache| text(cache.clean(AT_ONCE), |count| format!("{count}")))),
    ("queue", |_, _| simple(|cache| text(cache.queue_image(IMAGE), |queued| format!("{queued}")))),
    ("dequeue", |_, _| simple(|cache| text(cache.delete_queued_image(IMAGE), |()| "done".into()))),
    ("prefetch", |_, bytes| {
        simple(|cache| {
            let prefetched = cache.prefetch(|_, writer| writer.write_chunk(bytes));
            text(prefetched, |prefetched| format!("{prefetched:?}"))
        })
    }),
    ("list", |_, _| {
        simple(|cache| {
            let listed = cache.list_cached();
            text(listed, |list| list.fold(String::new(), |all, one| format!("{all} {}", one.image_id)))
        })
    }),
    ("size", |_, _| simple(|cache| text(cache.cache_size(), |size| format!("{size}")))),
    ("is_cached", |_, _| simple(|cache| text(cache.is_cached(IMAGE), |is| format!("{is}")))),
    ("is_being_cached", |_, _| simple(|cache| text(cache.is_being_cached(IMAGE), |is| format!("{is}")))),
    ("is_queued", |_, _| simple(|cache| text(cache.is_queued(IMAGE), |is| format!("{is}")))),
    ("is_cacheable", |_, _| simple(|cache| text(cache.is_cacheable(IMAGE), |is| format!("{is}")))),
    ("list_queued", |_, _| {
        simple(|cache| {
            let listed = cache.list_queued();
            text(listed, |list| list.iter().fold(String::new(), |all, one| format!("{all} {}", one.image_id)))
        })
    }),
    ("image_size", |_, _| simple(|cache| text(cache.image_size(IMAGE), |size| format!("{size}")))),
    ("hits", |_, _| simple(|cache| text(cache.hit_count(IMAGE), |hits| format!("{hits}")))),
];

/// Operations of several steps. They only run as the second one, and their outcome counts only where all steps ran
/// within the first.
const MULTI_STEP: &[Named] = &[
    ("replace", |_, bytes| {
        simple(|cache| {
            cache.delete_cached_image(IMAGE).unwrap();
            let written = cache.begin_write(IMAGE).and_then(|mut writer| {
                writer.write_chunk(bytes)?;
                writer.commit()
            });
            text(written, |()| "replaced".into())
        })
    }),
    ("clean and begin", |_, _| {
        simple(|cache| {
            cache.clean(AT_ONCE).unwrap();
            holding(cache.begin_write(IMAGE))
        })
    }),
];

/// Outcomes between the steps of an operation that has several.
fn is_intermediate(first: &str, second: &str, outcome: &Outcome) -> bool {
    match (first, second) {
        // Another writer has the image, or loses it.
        ("prefetch", "begin_write" | "replace") => outcome.second == "BeingCached",
        ("prefetch", "clean and begin") => {
            outcome.first == "Prefetched { fetched: 0, failed: 1 }" && outcome.second == "a handle"
        }
        ("prefetch", "is_being_cached") => outcome.second == "true",
        ("prefetch", "clean") => outcome.first == "Prefetched { fetched: 0, failed: 1 }" && outcome.second == "1",
        // A query over all images has no lock that keeps an operation of several images out.
        ("delete_all" | "prune", "list" | "size") | ("list" | "size", "delete_all" | "prune") => true,
        // The clean syncs an image, and has it open: prune leaves it.
        ("clean", "prune") => outcome.second.starts_with("Pruned") && !outcome.left.starts_with("0 bytes"),
        ("prune", "clean") => outcome.first.starts_with("Pruned") && !outcome.left.starts_with("0 bytes"),
        // The clean has passed invalid/ already.
        ("clean", "abort") => outcome.first == "0" && outcome.left.contains("invalid [\"disputed\"]"),
        ("abort", "clean") => outcome.second == "0" && outcome.left.contains("invalid [\"disputed\"]"),
        _ => false,
    }
}

/// Queries change nothing, so a pair of them needs no run.
fn is_query((name, _): &Named) -> bool {
    ["list", "size", "hits", "list_queued", "image_size"].contains(name) || name.starts_with("is_")
}

/// The image's state before the two operations.
const STATES: &[(&str, State)] = &[
    ("absent", |_, _| {}),
    ("queued", |_, cache| assert!(cache.queue_image(IMAGE).unwrap())),
    ("cached", |_, cache| cache_image(cache, IMAGE, b"first")),
    ("left by a dead writer", |scratch, _| {
        leave_by_dead_writer(&scratch.file("incomplete").join(IMAGE), b"half");
    }),
];

/// What each operation returned, and the end state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    first: String,
    second: String,
    left: String,
}

struct PairSetup {
    scratch: Scratch,
    /// The observer's handle, and one for each operation.
    handles: [ImageCache; 3],
}

impl PairSetup {
    fn new(driver: DriverChoice) -> Self {
        let mut scratch = Scratch::new(driver);
        scratch.options = scratch.options.clone().max_size(0);
        let handles = std::array::from_fn(|_| scratch.open());
        Self { scratch, handles }
    }

    fn reset(&self, state: State) {
        let observer = &self.handles[0];
        observer.delete_all_cached_images().unwrap();
        observer.clean(AT_ONCE).unwrap();
        observer.delete_all_queued_images().unwrap();
        cache_image(observer, BYSTANDER, b"other");
        state(&self.scratch, observer);
    }

    /// The end state in a line. If the second operation opened a reader after `began`, the last access is no earlier.
    fn left(&self, second: &Returned, second_name: &str, began: u64) -> String {
        let since = if second_name == "open_for_read" && second.1.is_some() { began } else { 0 };
        let [observer, others @ ..] = &self.handles;
        // Each handle writes its pending accesses and hits.
        for other in others {
            other.list_cached().unwrap();
        }
        let listed = check_listing(&self.scratch.path(), observer).unwrap();
        let mut text = format!("{} bytes;", observer.cache_size().unwrap());
        for image in listed {
            let content = read_without_atime(&self.scratch.file(&image.image_id)).unwrap();
            check_image(&image, &content).unwrap();
            // The index stores times to a quarter of a microsecond.
            if image.image_id == IMAGE && image.last_accessed.cast_unsigned() + 1000 < since {
                text += " its last access was lost;";
            }
            let content = String::from_utf8_lossy(&content);
            write!(text, " {} {content:?} {} hits;", image.image_id, image.hits).unwrap();
        }
        for subdirectory in ["incomplete", "invalid", "queue"] {
            write!(text, " {subdirectory} {:?}", files(&self.scratch.file(subdirectory))).unwrap();
        }
        text
    }

    /// Runs the two in sequence; `None` where one of them cannot be prepared.
    fn sequential(&self, state: State, pair: [Named; 2], second_first: bool) -> Option<Outcome> {
        self.reset(state);
        let [first, second] = self.prepare(pair)?;
        let run = |operation: Prepared, handle| {
            let began = wall_clock();
            (operation(&self.handles[handle]), began)
        };
        let (first, (second, began)) = if second_first {
            let second = run(second, 2);
            (run(first, 1).0, second)
        } else {
            (run(first, 1).0, run(second, 2))
        };
        let left = self.left(&second, pair[1].0, began);
        Some(Outcome { first: first.0, second: second.0, left })
    }

    fn prepare(&self, [(_, first), (_, second)]: [Named; 2]) -> Option<[Prepared; 2]> {
        let first = first(&self.handles[1], b"by the first")?;
        Some([first, second(&self.handles[2], b"by the second one")?])
    }

    /// Runs the second within the first, at a point. Returns the number of points that the first has.
    fn interleaved(&self, state: State, pair: [Named; 2], at: usize) -> (Option<(Outcome, Progress)>, usize) {
        self.reset(state);
        let [first, second] = self.prepare(pair).expect("what could be prepared before");
        let (start, started) = mpsc::channel::<()>();
        let (sender, progress) = mpsc::channel();
        thread::scope(|scope| {
            let other_thread = scope.spawn(move || {
                // The first operation has no such point.
                started.recv().ok()?;
                let began = wall_clock();
                Some((with_progress(&sender, || second(&self.handles[2])), began))
            });
            let (first_progress, received) = mpsc::channel();
            let interleaved = move || {
                start.send(()).unwrap();
                first_progress.send(progress.recv().unwrap()).unwrap();
            };
            let (first, points) = with_interleaved(at, interleaved, || first(&self.handles[1]));
            let second = other_thread.join().unwrap();
            let outcome = second.map(|(second, began)| {
                let left = self.left(&second, pair[1].0, began);
                (Outcome { first: first.0, second: second.0, left }, received.recv().unwrap())
            });
            (outcome, points)
        })
    }
}

pub fn every_pair(driver: DriverChoice) {
    let setup = PairSetup::new(driver);
    let mut violations = Vec::new();
    let (mut pairs, mut runs) = (0, 0);
    for (state_name, state) in STATES {
        for first in OPERATIONS {
            for second in OPERATIONS.iter().chain(MULTI_STEP) {
                let pair = [*first, *second];
                if pair.iter().all(is_query) {
                    continue;
                }
                let sequential = [false, true].map(|second_first| setup.sequential(*state, pair, second_first));
                let [Some(one), Some(other)] = sequential else { continue };
                pairs += 1;
                let allowed = BTreeSet::from([one, other]);
                let mut at = 0;
                while let (Some((outcome, progress)), points) = setup.interleaved(*state, pair, at) {
                    runs += 1;
                    let is_comparable =
                        progress == Progress::Ended || OPERATIONS.iter().any(|(name, _)| *name == second.0);
                    if is_comparable && !allowed.contains(&outcome) && !is_intermediate(first.0, second.0, &outcome) {
                        violations.push(format!(
                            "{state_name}: {} at point {at} of {points} of {}:\n  {outcome:?}, not one of\n  {allowed:#?}",
                            second.0, first.0
                        ));
                    }
                    at += 1;
                }
            }
        }
    }
    {
        let messages = setup.scratch.messages.lock().unwrap();
        let message = messages.iter().find(|message| message.contains("later") || message.contains("rebuilt"));
        violations.extend(message.map(|message| format!("the log has: {message}")));
    }
    println!("swept: {driver:?}: {pairs} pairs of operations, {runs} interleavings, {} violations", violations.len());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
