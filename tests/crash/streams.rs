//! Streams in the sweeps, and streams of this process beside one that is killed or stopped.
//!
//! A kill before each call of a stream: another process that streams the image meanwhile goes on with the fetch, and one that streams
//! it afterwards gets the whole image. Both publish it. A stop before each call: another process's stream delivers all bytes while the
//! first one is stopped, and then the first one does.
//!
//! `make test` does this at [`POINTS`] points of each operation, evenly spread.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image_cache::{Algorithm, Error, ImageCache, RangeSource, Stream, StreamRole};
use libtest_mimic::{Completion, Failed};

use crate::checks::{CheckResult, check, context, md5_hex};
use crate::child;
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::{bytes_of, copy_tree};
use crate::kill::{ended, points};
use crate::operations::{Effect, Operation, OperationResult, Outcome};
use crate::promises::{Checked, check_all};
use crate::setup::Setup;
use crate::state::State;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{Decision, End, Event, Traced, trace};
use crate::workspace::Workspace;

/// The most that a source returns at once, in bytes.
const PIECE: usize = 1500;

/// At how many points of an operation `make test` kills and stops.
const POINTS: usize = 8;

/// How long a stream beside has before the kill.
const HEAD_START: Duration = Duration::from_millis(4);
/// A stream beside a process that was killed ends within this time. A source may take longer before its turn is taken over.
const LONGEST: Duration = Duration::from_secs(20);
/// The source time-out of a stream beside a process that is stopped.
const SOURCE_TIMEOUT: Duration = Duration::from_millis(20);

// ---- The operations -------------------------------------------------------------------------------------------------

/// Returns the bytes of an image, in pieces.
pub fn source(id: &str) -> impl RangeSource + Send + use<> {
    let bytes = bytes_of(id);
    move |offset: u64, buffer: &mut [u8]| -> io::Result<usize> {
        let left = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let length = left.len().min(buffer.len()).min(PIECE);
        buffer[..length].copy_from_slice(&left[..length]);
        Ok(length)
    }
}

/// Reads up to the end, or so many bytes. Returns what ends it.
fn read<S: RangeSource>(stream: &mut Stream<S>, bytes: &mut Vec<u8>, most: usize) -> image_cache::Result<()> {
    let mut buffer = [0; 1000];
    while bytes.len() < most {
        match stream.read(&mut buffer)? {
            0 => break,
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(())
}

/// Streams an image to its end, with its digest.
pub fn read_whole(setup: &mut Setup, id: &'static str) -> OperationResult {
    setup.streamed = Some(id);
    let mut stream = setup.cache().stream(id, source(id))?;
    stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes_of(id)))?;
    let mut bytes = Vec::new();
    read(&mut stream, &mut bytes, usize::MAX).expect("a stream goes on delivering");
    assert!(bytes == bytes_of(id), "wrong bytes were streamed");
    Ok(Outcome::Done)
}

/// Leaves a fetch without participants.
pub fn leave_unfinished(setup: &Setup, id: &str) -> image_cache::Result<()> {
    let mut stream = setup.cache().stream(id, source(id))?;
    stream.read(&mut [0; 1000]).map(drop)
}

/// Reads ahead of the fetch, then all bytes. The size is known, so that the close of the stream ends the fetch.
pub fn read_ahead(setup: &mut Setup, id: &'static str) -> OperationResult {
    const AHEAD: usize = 2500;
    setup.streamed = Some(id);
    let expected = bytes_of(id);
    let mut stream = setup.cache().stream(id, source(id))?;
    stream.expect_size(expected.len() as u64)?;
    let mut ahead = [0; 100];
    let length = stream.read_at(AHEAD as u64, &mut ahead).expect("a stream goes on delivering");
    assert!(length > 0 && ahead[..length] == expected[AHEAD..AHEAD + length], "wrong bytes were read ahead");
    let mut bytes = Vec::new();
    read(&mut stream, &mut bytes, expected.len()).expect("a stream goes on delivering");
    assert!(bytes == expected, "wrong bytes were streamed");
    Ok(Outcome::Done)
}

/// Streams an image that does not have the expected digest.
pub fn read_wrong(setup: &mut Setup, id: &str) -> OperationResult {
    let mut stream = setup.cache().stream(id, source(id))?;
    stream.expect_digest(Algorithm::Md5, &md5_hex(b"others"))?;
    let mut bytes = Vec::new();
    match read(&mut stream, &mut bytes, usize::MAX) {
        Err(Error::DigestMismatch { .. }) => assert!(bytes == bytes_of(id), "wrong bytes were streamed"),
        other => panic!("bytes with another digest: {other:?}"),
    }
    Ok(Outcome::Done)
}

/// Streams an image that the inspection refuses: it is delivered.
pub fn read_refused(setup: &mut Setup, id: &str) -> OperationResult {
    let mut stream = setup.cache().stream(id, source(id))?;
    stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes_of(id)))?;
    let mut bytes = Vec::new();
    read(&mut stream, &mut bytes, usize::MAX).expect("a stream goes on delivering");
    assert!(bytes == bytes_of(id), "wrong bytes were streamed");
    drop(stream);
    let is_cached = setup.cache().is_cached(id).unwrap_or(false);
    assert!(!is_cached, "a refused image was cached");
    Ok(Outcome::Done)
}

// ---- Beside one that is killed or stopped ---------------------------------------------------------------------------

/// Kills one operation.
pub fn kills(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_kills(operation, configuration))
}

/// Stops one operation.
pub fn stops(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_stops(operation, configuration))
}

/// Whether an operation fetches.
pub fn is_fetch(operation: &Operation) -> bool {
    operation.is_stream() && operation.name != "stream_of_a_cached_image"
}

/// What one sweep uses.
struct Sweep<'a> {
    operation: &'a Operation,
    configuration: Configuration,
    workspace: Workspace,
    id: &'static str,
    checked: Checked,
}

/// What a stream of this process did.
pub struct Streamed {
    pub role: StreamRole,
    pub took: Duration,
}

fn try_kills(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let sweep = Sweep::new(operation, configuration)?;
    for (number, point) in sweep.points()?.into_iter().enumerate() {
        // In turn, unless in full.
        for is_beside in [true, false] {
            if is_in_full() || is_beside == (number % 2 == 0) {
                let when = if is_beside { "beside" } else { "after" };
                sweep.kill_at(point, is_beside)?.map_err(|what| {
                    format!("a stream {when} '{}', which was killed at point {point}: {what}", operation.name)
                })?;
                COUNTERS.streams.add(1);
            }
        }
    }
    Ok(())
}

fn try_stops(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let sweep = Sweep::new(operation, configuration)?;
    for point in sweep.points()? {
        sweep.stop_at(point)?.map_err(|what| {
            format!("a stream beside '{}', which was stopped at point {point}: {what}", operation.name)
        })?;
        COUNTERS.streams.add(1);
    }
    Ok(())
}

impl<'a> Sweep<'a> {
    fn new(operation: &'a Operation, configuration: Configuration) -> Result<Self, Stop> {
        let workspace = Workspace::new()?;
        operation.fixture.build(&workspace.path("fixture"), configuration);
        workspace.directory("scratch")?;
        let id = operation.effects.iter().map(|effect| effect.id()).next().unwrap_or_default();
        Ok(Self { operation, configuration, workspace, id, checked: Checked::default() })
    }

    fn points(&self) -> Result<Vec<usize>, Stop> {
        let all = points(self.operation, &self.directory()?, self.configuration)?;
        let every = if is_in_full() { 1 } else { all.len().div_ceil(POINTS) };
        Ok(all.into_iter().step_by(every).collect())
    }

    /// The cache's directory, as it is before the operation.
    fn directory(&self) -> io::Result<std::path::PathBuf> {
        let directory = self.workspace.empty("cache")?;
        copy_tree(&self.workspace.path("fixture"), &directory)?;
        Ok(directory)
    }

    fn open(&self, directory: &Path) -> Result<Arc<ImageCache>, Stop> {
        Ok(Arc::new(ImageCache::open(directory, self.configuration.options())?))
    }

    /// Kills the operation at that point. The image is streamed from shortly before the kill on, or after it.
    fn kill_at(&self, point: usize, is_beside: bool) -> Result<CheckResult, Stop> {
        let directory = self.directory()?;
        let cache = if is_beside { Some(self.open(&directory)?) } else { None };
        let mut beside = None;
        let traced = self.at(&directory, point, || {
            if let Some(cache) = &cache {
                let stream: JoinHandle<_> = start(cache, self.id);
                let begin = Instant::now();
                while !stream.is_finished() && begin.elapsed() < HEAD_START {
                    std::thread::sleep(HEAD_START / 8);
                }
                beside = Some(stream);
            }
            Decision::Kill
        })?;
        match traced.end {
            End::Killed => {}
            End::NotPermitted => return Err(Stop::NotPermitted),
            end => return Err(format!("it ended with {end:?}: {}", traced.stderr).into()),
        }
        let streamed = match beside {
            Some(stream) => stream.join().unwrap_or_else(|_| Err("the stream panicked".to_owned())),
            None => stream_whole(self.open(&directory)?.as_ref(), self.id, None),
        };
        drop(cache);
        // A participant that expects another digest shares nothing.
        let may_be_alone = is_beside && self.operation.name == "stream_of_wrong_bytes";
        Ok(streamed.and_then(|streamed| {
            check(streamed.took < LONGEST, || format!("it took {:?}", streamed.took))?;
            check(may_be_alone || streamed.role != StreamRole::Alone, || "it was alone".to_owned())?;
            self.check_promises(&directory, !may_be_alone)
        }))
    }

    /// Stops the operation at that point, while the image is streamed; then it goes on.
    fn stop_at(&self, point: usize) -> Result<CheckResult, Stop> {
        let directory = self.directory()?;
        let cache = self.open(&directory)?;
        let mut streamed = Err("it did not begin".to_owned());
        let traced = self.at(&directory, point, || {
            streamed = stream_whole(&cache, self.id, Some(SOURCE_TIMEOUT));
            Decision::Continue
        })?;
        drop(cache);
        ended(self.operation, traced)?;
        Ok(streamed.and_then(|_| self.check_promises(&directory, false)))
    }

    /// Runs the operation. `act` is called at that point, and decides.
    fn at(&self, directory: &Path, point: usize, mut act: impl FnMut() -> Decision) -> io::Result<Traced> {
        let (mut calls, mut has_acted) = (0, false);
        trace(&child::arguments(self.operation, directory, self.configuration), |_, event| {
            calls += 1;
            let is_due = !has_acted && (calls > point || matches!(event, Event::Returned));
            has_acted |= is_due;
            if is_due { act() } else { Decision::Continue }
        })
    }

    fn check_promises(&self, directory: &Path, is_cached: bool) -> CheckResult {
        let mut expected = Expected::after(self.operation, false);
        expected.add(&[Effect::Caches(self.id), Effect::ReadsOnly(self.id), Effect::ReadsOnly(self.id)]);
        if is_cached {
            expected.cached.insert(self.id);
        }
        let (fixture, scratch) = (self.workspace.path("fixture"), self.workspace.path("scratch"));
        let state = context("the state", State::of(directory, &fixture, &scratch))?;
        if self.checked.is_new(state, &expected) {
            check_all(directory, &fixture, &scratch, self.configuration, &expected)?;
        }
        Ok(())
    }
}

fn start(cache: &Arc<ImageCache>, id: &'static str) -> JoinHandle<CheckResult<Streamed>> {
    let cache = Arc::clone(cache);
    std::thread::spawn(move || stream_whole(&cache, id, None))
}

/// Streams an image to its end, in this process.
pub fn stream_whole(cache: &ImageCache, id: &str, source_timeout: Option<Duration>) -> CheckResult<Streamed> {
    let begin = Instant::now();
    let mut stream = context("stream", cache.stream(id, source(id)))?;
    context("expect_digest", stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes_of(id))))?;
    if let Some(timeout) = source_timeout {
        context("set_source_timeout", stream.set_source_timeout(timeout))?;
    }
    let mut bytes = Vec::new();
    context("reading the stream", read(&mut stream, &mut bytes, usize::MAX))?;
    check(bytes == bytes_of(id), || "wrong bytes were streamed".to_owned())?;
    Ok(Streamed { role: stream.role(), took: begin.elapsed() })
}
