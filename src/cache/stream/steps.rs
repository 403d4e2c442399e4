//! The steps of a read, for each thing that a stream can read from.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crate::cache::reader::Reader;
use crate::cache::stream::conclude;
use crate::cache::stream::fetch::{self, Appended};
use crate::cache::stream::follow::{Fate, FollowedFile};
use crate::cache::stream::room::{PIECE, Room, SHORTEST};
use crate::cache::stream::source::RangeSource;
use crate::cache::stream::state::{From, State, Step, StreamRole};
use crate::cache::stream::waiting::Waiting;
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::layout::Area;
use crate::sys::memory;

/// A call of a source that takes less than the first, or more than the second.
const QUICK: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_secs(1);

/// How often a stream that follows a writer looks whether that still lives.
const WRITER_LOOK: Duration = Duration::from_secs(1);

/// How long the append lock may be held while a turn is taken over. A process that is stopped may hold both.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// What a call that times out did.
const WAIT: &str = "wait for bytes";

impl<S: RangeSource> State<S> {
    pub fn step_cached(&self, reader: &Reader, offset: u64, buffer: &mut [u8]) -> Step {
        if self.position == 0
            && let Err(error) = self.check_published(reader.size(), || reader.stored_digest())
        {
            return Step::Alone(0, error);
        }
        match reader.read_at(offset, buffer) {
            Ok(0) => Step::End(Ok(())),
            Ok(length) => Step::Read(length),
            Err(error) => Step::Alone(0, error),
        }
    }

    /// Fails when a published image is not the expected one. Its bytes met the expectations of those who cached it; a digest that they
    /// did not compute is not computed here.
    pub fn check_published(&self, size: u64, stored: impl Fn() -> Option<String>) -> Result<()> {
        let other_size = self.expected.size().is_some_and(|expected| expected != size);
        let stored = if self.expected.digests().is_empty() { None } else { stored() };
        let is_other = |(algorithm, hex): &(Algorithm, String)| {
            stored
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .is_some_and(|(name, known)| name == algorithm.name() && known != hex)
        };
        if other_size || self.expected.digests().iter().any(is_other) {
            return Err(Error::InvalidArgument(format!("image '{}' is cached with another size or digest", self.id)));
        }
        Ok(())
    }

    pub fn step_room(&mut self, room: &Room, offset: u64, buffer: &mut [u8], waiting: &mut Waiting) -> Result<Step> {
        let stepped = self.try_step_room(room, offset, buffer, waiting);
        // The other errors are failures of the shared file.
        match stepped {
            Err(error @ Error::TimedOut { operation: WAIT, .. }) => Err(error),
            Err(error @ Error::SizeMismatch { .. }) => Ok(Step::End(Err(error))),
            Err(error) => Ok(Step::Alone(0, error)),
            stepped => stepped,
        }
    }

    pub fn try_step_room(
        &mut self,
        room: &Room,
        offset: u64,
        buffer: &mut [u8],
        waiting: &mut Waiting,
    ) -> Result<Step> {
        // Who has fetched up to here is at the end of the file, as a rule, and tries the turn first.
        let has_fetched = offset > 0 && self.fetched_to == offset;
        let length = if has_fetched { 0 } else { room.read_at(offset, buffer)? };
        if length > 0 {
            self.role = StreamRole::Following;
            return Ok(Step::Read(length));
        }
        let version = room.waiters.version();
        let progress = room.progress()?;
        let mut turn = if has_fetched { room.try_turn(progress.turn)? } else { None };
        let look = room.look()?;
        waiting.note_length(look.length);
        if look.length > offset {
            self.fetched_to = 0;
            return Ok(Step::Again);
        }
        if progress.complete_length() == Some(look.length) {
            drop(turn);
            return self.end_in_room(room, version, waiting);
        }
        // Once the end was found, the length does not change any more.
        let is_other = progress.length.is_some() || progress.size.is_some_and(|size| look.length > size);
        if !look.is_linked || look.length < self.position || is_other {
            let why = if look.is_linked { "another program changed its length" } else { "it was cleaned or deleted" };
            return Ok(Step::Alone(0, room.lost(why)));
        }
        if turn.is_none() {
            turn = room.try_turn(progress.turn)?;
            // The turn's former holder may have appended since the look.
            if turn.is_some() && room.look()?.length != look.length {
                return Ok(Step::Again);
            }
        }
        if let Some(turn) = turn {
            let called = Instant::now();
            let step = self.fetch(room, look.length, progress.size, offset, buffer);
            drop(turn);
            // The time of the own source does not count.
            waiting.began += called.elapsed();
            waiting.idle_since = Instant::now();
            return step;
        }
        let now = Instant::now();
        if now >= waiting.idle_since + self.source_timeout {
            fetch::take_over(&self.cache, room, progress.turn, look.length, TAKE_OVER.min(self.source_timeout))?;
            waiting.idle_since = now;
            return Ok(Step::Again);
        }
        let deadline = self.deadline(waiting, waiting.idle_since + self.source_timeout)?;
        room.waiters.wait(version, deadline, || {
            !room.is_turn_taken(progress.turn) || room.look() != Ok(look) || room.progress() != Ok(progress)
        });
        Ok(Step::Again)
    }

    /// At the end of a complete file: verifies and publishes it, or waits for the one who does.
    fn end_in_room(&mut self, room: &Room, version: u64, waiting: &mut Waiting) -> Result<Step> {
        if let Some(verdict) = conclude::conclude(&self.cache, room)? {
            return Ok(Step::End(verdict));
        }
        let turn = room.progress()?.turn;
        waiting.note_hashed(room.record.hashed()?);
        let end = waiting.idle_since + self.source_timeout;
        if Instant::now() >= end {
            let facts = room.facts()?;
            if let Some(verdict) = facts.verdict.clone() {
                return Ok(Step::End(conclude::as_result(room, &facts, verdict)));
            }
            let path = room.record.path();
            return Err(Error::TimedOut { operation: "wait for the verdict", path, waited: self.source_timeout });
        }
        let deadline = self.deadline(waiting, end)?;
        let is_inspected = || self.cache.inspection.is_set() && room.is_turn_taken(turn);
        room.waiters.wait(version, deadline, || !room.is_append_locked() && !is_inspected());
        Ok(Step::Again)
    }

    /// Calls the source at the end of the file, and appends what it returns. The caller has the turn.
    pub fn fetch(
        &mut self,
        room: &Room,
        length: u64,
        size: Option<u64>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Step> {
        let left = size.map_or(u64::MAX, |size| size.saturating_sub(length));
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        // A read further ahead fetches what is in between, too. A small one fetches more than it delivers: each call may be a request.
        let wanted = usize::try_from(offset - length).unwrap_or(PIECE).max(buffer.len()).max(self.piece).min(most);
        let is_direct = length == offset && wanted <= buffer.len();
        let mut between = if is_direct { Vec::new() } else { room.take_buffer(wanted)? };
        fetch::reserve_room(&self.cache, room, length + wanted as u64, size)?;
        let piece = if is_direct { &mut buffer[..wanted] } else { &mut between[..wanted] };
        let called = Instant::now();
        let got = match self.call(length, piece) {
            Ok(got) => got,
            Err(error) => {
                self.cache.log().warning(|| error.to_string());
                return Ok(Step::End(Err(error)));
            }
        };
        self.note_call(called.elapsed(), got == wanted);
        if got == 0 {
            // Only this source is wrong: others go on.
            if let Some(expected) = size {
                let image_id = self.id.to_string();
                let error = Error::SizeMismatch { image_id, expected, actual: length };
                self.cache.log().warning(|| error.to_string());
                return Ok(Step::End(Err(error)));
            }
            fetch::note_end(&self.cache, room, length, self.source_timeout)?;
            return Ok(Step::Again);
        }
        let piece = if is_direct { &buffer[..got] } else { &between[..got] };
        self.fetched_to = length + got as u64;
        let appended = fetch::append(&self.cache, room, length, piece, self.source_timeout);
        // The bytes are the source's, and are delivered even if they cannot be kept.
        let delivered = match length.cmp(&offset) {
            Ordering::Equal if is_direct => got,
            Ordering::Equal => {
                let delivered = got.min(buffer.len());
                buffer[..delivered].copy_from_slice(&between[..delivered]);
                delivered
            }
            _ => 0,
        };
        room.put_buffer(between);
        match appended {
            Ok(Appended::Dropped) => Ok(Step::Again),
            Ok(Appended::Kept) if delivered == 0 => Ok(Step::Again),
            Ok(Appended::Kept) => {
                self.role = StreamRole::Fetching;
                Ok(Step::Read(delivered))
            }
            Err(error) => Ok(Step::Alone(delivered, error)),
        }
    }

    /// The pieces become longer as long as the source is quick: each call may be a request, and delay the others.
    fn note_call(&mut self, took: Duration, is_full: bool) {
        if took < QUICK && is_full {
            self.piece = (self.piece * 2).min(PIECE);
        } else if took > SLOW {
            self.piece = (self.piece / 2).max(SHORTEST);
        }
    }

    pub fn step_followed(
        &mut self,
        file: &FollowedFile,
        offset: u64,
        buffer: &mut [u8],
        waiting: &mut Waiting,
    ) -> Result<Step> {
        let layout = self.cache.layout();
        // Nothing is delivered of what was given up before.
        if self.position == 0 && file.fate(layout, &self.id) == Ok(Fate::Gone) {
            return Ok(Step::Join);
        }
        if let Some(size) = self.expected.size()
            && file.length()? > size
        {
            let error = format!("image '{}' is being cached with another size than {size} bytes", self.id);
            return Ok(Step::Alone(0, Error::InvalidArgument(error)));
        }
        match file.read_at(offset, buffer) {
            Ok(0) => {}
            Ok(length) => return Ok(Step::Read(length)),
            Err(error) => return Ok(Step::Alone(0, error)),
        }
        // In this order: all bytes were written before the file was published.
        let fate = file.fate(layout, &self.id).unwrap_or(Fate::Gone);
        let length = file.length().unwrap_or(0);
        if length > offset {
            return Ok(Step::Again);
        }
        match fate {
            Fate::Published => return Ok(Step::End(self.verify_published(file, length))),
            Fate::Gone if self.position == 0 => return Ok(Step::Join),
            Fate::Gone => {
                let image_id = self.id.to_string();
                // With a digest of its own, the stream verifies these bytes at its end.
                if self.expected.digests().is_empty()
                    && let Some(error) = file.wrong_digest(&image_id)
                    && !self.has_source(file)?
                {
                    return Ok(Step::End(Err(error)));
                }
                return Ok(Step::Alone(0, Error::Lost { image_id, why: "its writer gave it up" }));
            }
            Fate::Growing => {}
        }
        let now = Instant::now();
        if now >= waiting.idle_since + self.source_timeout {
            let image_id = self.id.to_string();
            return Ok(Step::Alone(0, Error::Lost { image_id, why: "its writer does not write" }));
        }
        let look = now + WRITER_LOOK;
        let deadline = self.deadline(waiting, look)?;
        file.wait(layout, &self.id, length, deadline);
        Ok(if Instant::now() >= look { Step::Join } else { Step::Again })
    }

    /// Whether the own source has the bytes that were delivered from a file.
    fn has_source(&mut self, file: &FollowedFile) -> Result<bool> {
        let mut bytes = memory::buffer(PIECE, "compare the image")?;
        let mut own = memory::buffer(PIECE, "compare the image")?;
        let mut compared = 0;
        while compared < self.position {
            let most = usize::try_from(self.position - compared).unwrap_or(PIECE).min(PIECE);
            let length = file.read_at(compared, &mut bytes[..most])?;
            let got = if length == 0 { 0 } else { self.call(compared, &mut own[..length])? };
            if got == 0 || bytes[..got] != own[..got] {
                return Ok(false);
            }
            compared += got as u64;
        }
        Ok(true)
    }

    /// Verifies what a writer has published. It may have computed other digests than this stream expects.
    fn verify_published(&mut self, file: &FollowedFile, length: u64) -> Result<()> {
        let stored = attributes::get(&file.file, Attribute::Digest).ok().flatten();
        let is_known =
            |(algorithm, hex): &(Algorithm, String)| stored.as_ref() == Some(&format!("{}:{hex}", algorithm.name()));
        let is_verified = self.expected.digests().iter().all(is_known);
        let digests = if is_verified { &[] } else { self.expected.digests() };
        let mut expectations = Expectations::of(self.expected.size(), digests)?;
        self.hash_delivered(&mut expectations, length)?;
        expectations.conclude(self.id.as_str()).map(drop)
    }

    pub fn step_alone(&mut self, buffer: &mut [u8]) -> Step {
        let left = self.expected.size().map_or(u64::MAX, |size| size.saturating_sub(self.position));
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = if most == 0 { Ok(0) } else { self.call(self.position, &mut buffer[..most]) };
        let id = self.id.to_string();
        let From::Alone(expectations) = &mut self.from else { return Step::Again };
        match got {
            Ok(0) => Step::End(expectations.conclude(&id).map(drop)),
            Ok(length) => match expectations.count(&id, length as u64) {
                Ok(()) => {
                    expectations.hash(&buffer[..length]);
                    Step::Read(length)
                }
                Err(error) => Step::End(Err(error)),
            },
            Err(error) => Step::End(Err(error)),
        }
    }

    /// When a wait ends. Fails when the call's time is over.
    pub fn deadline(&self, waiting: &Waiting, latest: Instant) -> Result<Instant> {
        let Some(timeout) = self.timeout else { return Ok(latest) };
        let end = waiting.began + timeout;
        if Instant::now() >= end {
            let path = self.cache.layout().path(Area::Incomplete, &self.id);
            return Err(Error::TimedOut { operation: WAIT, path, waited: timeout });
        }
        Ok(end.min(latest))
    }
}
