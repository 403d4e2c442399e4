//! The state of a stream, and its reads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::reader::Reader;
use crate::cache::stream::conclude::conclude;
use crate::cache::stream::delivered::Delivered;
use crate::cache::stream::fetch;
use crate::cache::stream::follow::FollowedFile;
use crate::cache::stream::join::{Joined, join};
use crate::cache::stream::lost;
use crate::cache::stream::room::{PIECE, Room, SHORTEST};
use crate::cache::stream::source::RangeSource;
use crate::cache::stream::waiting::Waiting;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::log::LogLevel;
use crate::store::image_id::ImageId;
use crate::sys::memory;
use crate::sys::stat::FileId;

/// How long a source may take for one call before another participant takes its turn over.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(30);

/// A read at an offset waits for bytes that are less than this ahead, in bytes, or less than a second at the present speed.
const NEAR: u64 = 8 << 20;

/// Where a stream's bytes came from last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRole {
    /// From the cached image.
    Cached,
    /// From its own source, into the shared file.
    Fetching,
    /// From the shared file, or that of a writer.
    Following,
    /// From its own source. Nothing is cached.
    Alone,
}

pub(super) struct State<S: RangeSource> {
    pub cache: Arc<CacheInner>,
    pub id: ImageId,
    pub source: S,
    pub expected: Expectations,
    pub from: From,
    pub role: StreamRole,
    pub position: u64,
    /// The result of the end, after it.
    pub end: Option<Result<()>>,
    /// How long a call waits.
    pub timeout: Option<Duration>,
    pub source_timeout: Duration,
    pub has_begun: bool,
    /// How many bytes its next call of the source asks for, at least.
    pub piece: usize,
    /// Its source has returned bytes up to this offset.
    pub fetched_to: u64,
    pub delivered: Delivered,
}

pub(super) enum From {
    Unknown,
    Cached(Reader),
    Room(Arc<Room>),
    Followed(Arc<FollowedFile>),
    /// With what is expected of the bytes, of which so many as the stream's position were hashed.
    Alone(Box<Expectations>),
}

/// What one step of a read has brought.
pub(super) enum Step {
    /// So many bytes are in the buffer.
    Read(usize),
    /// The state has changed: look again.
    Again,
    End(Result<()>),
    /// Nothing is shared from here on. The buffer has so many bytes of the own source.
    Alone(usize, Error),
    /// The image has another file, or none.
    Join,
}

impl<S: RangeSource> State<S> {
    pub fn open(cache: &Arc<CacheInner>, id: &ImageId, source: S) -> Self {
        let (from, role) = match Reader::open(cache, id) {
            Ok(reader) => (From::Cached(reader), StreamRole::Cached),
            // The first read tells why.
            Err(_) => (From::Unknown, StreamRole::Following),
        };
        Self {
            cache: Arc::clone(cache),
            id: id.clone(),
            source,
            expected: Expectations::default(),
            from,
            role,
            position: 0,
            end: None,
            timeout: None,
            source_timeout: SOURCE_TIMEOUT,
            has_begun: false,
            piece: SHORTEST,
            fetched_to: 0,
            delivered: Delivered::default(),
        }
    }

    pub fn expectations(&mut self) -> Result<&mut Expectations> {
        if self.has_begun {
            return Err(Error::InvalidArgument("size and digest must be expected before the first read".to_owned()));
        }
        Ok(&mut self.expected)
    }

    pub fn available(&self) -> u64 {
        match &self.from {
            From::Cached(reader) => reader.size(),
            From::Room(room) => room.look().map_or(0, |look| look.length),
            From::Followed(file) => file.length().unwrap_or(0),
            From::Unknown | From::Alone(_) => 0,
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| 0);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut waiting = Waiting::new();
        loop {
            match self.step(self.position, buffer, &mut waiting, true)? {
                Step::Read(length) => {
                    self.position += length as u64;
                    return Ok(length);
                }
                Step::End(end) => {
                    self.end = Some(end.clone());
                    return end.map(|()| 0);
                }
                Step::Alone(length, error) => {
                    self.go_alone(&error, &buffer[..length])?;
                    if length > 0 {
                        self.position += length as u64;
                        return Ok(length);
                    }
                }
                Step::Again => {}
                Step::Join => self.join(),
            }
        }
    }

    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.expected.size().map_or(u64::MAX, |size| size.saturating_sub(offset));
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut waiting = Waiting::new();
        loop {
            if self.is_far(offset) {
                let length = self.call(offset, buffer)?;
                self.delivered.bytes += length as u64;
                return Ok(length);
            }
            match self.step(offset, buffer, &mut waiting, false)? {
                Step::Read(length) => return Ok(length),
                Step::End(Err(error @ Error::Source { .. })) => return Err(error),
                Step::End(_) => return Ok(0),
                Step::Alone(length, error) => {
                    self.go_alone(&error, &[])?;
                    if length > 0 {
                        return Ok(length);
                    }
                }
                Step::Again => {}
                Step::Join => self.join(),
            }
        }
    }

    /// Whether bytes at an offset are read from the own source.
    pub fn is_far(&self, offset: u64) -> bool {
        let length = self.available();
        let ahead = offset.saturating_sub(length);
        match &self.from {
            From::Room(room) => ahead >= NEAR.max(room.bytes_per_second(length)),
            From::Followed(_) => offset >= length,
            From::Alone(_) => true,
            From::Unknown | From::Cached(_) => false,
        }
    }

    /// One step of a read at `offset`. `is_sequential`: of bytes at the stream's position, which end with a verdict.
    pub fn step(&mut self, offset: u64, buffer: &mut [u8], waiting: &mut Waiting, is_sequential: bool) -> Result<Step> {
        let step = self.step_from(offset, buffer, waiting, is_sequential)?;
        if let Step::Read(length) | Step::Alone(length, _) = &step
            && !matches!(self.from, From::Cached(_))
        {
            self.delivered.bytes += *length as u64;
        }
        Ok(step)
    }

    fn step_from(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
        waiting: &mut Waiting,
        is_sequential: bool,
    ) -> Result<Step> {
        self.has_begun = true;
        match &self.from {
            From::Unknown => Ok(Step::Join),
            From::Cached(reader) => Ok(self.step_cached(reader, offset, buffer)),
            From::Room(room) => {
                let room = Arc::clone(room);
                self.step_room(&room, offset, buffer, waiting)
            }
            From::Followed(file) => {
                let file = Arc::clone(file);
                self.step_followed(&file, offset, buffer, waiting)
            }
            From::Alone(_) if is_sequential => Ok(self.step_alone(buffer)),
            From::Alone(_) => Ok(Step::Read(self.call(offset, buffer)?)),
        }
    }

    /// Finds the image's file, or goes on alone.
    pub fn join(&mut self) {
        let followed = match &self.from {
            From::Followed(file) => Some(file.file_id),
            _ => None,
        };
        let joined = match self.try_join(followed) {
            // It has ended meanwhile.
            Err(Error::Lost { .. }) => self.try_join(followed),
            joined => joined,
        };
        if self.position > 0 && followed.is_some() && matches!(joined, Ok(From::Cached(_))) {
            // The file that it has read was published meanwhile, as a rule: the next step looks.
            return;
        }
        let is_same = |from: &From| match from {
            From::Followed(file) => followed == Some(file.file_id),
            From::Room(room) => followed == Some(room.file_id),
            _ => false,
        };
        let joined = joined.and_then(|from| {
            if self.position == 0 || is_same(&from) {
                return Ok(from);
            }
            Err(Error::Lost { image_id: self.id.to_string(), why: "its writer gave it up" })
        });
        match joined {
            Ok(from) => {
                self.role = if matches!(from, From::Cached(_)) { StreamRole::Cached } else { StreamRole::Following };
                self.from = from;
            }
            Err(error) => {
                if let Err(error) = self.go_alone(&error, &[]) {
                    self.end = Some(Err(error));
                }
            }
        }
    }

    fn try_join(&self, followed: Option<FileId>) -> Result<From> {
        match join(&self.cache, &self.id, &self.expected, followed)? {
            Joined::Cached => Reader::open(&self.cache, &self.id).map(From::Cached),
            Joined::Followed(file) => Ok(From::Followed(file)),
            Joined::Room(room) => {
                let agreed = fetch::agree(&self.cache, &room, &self.expected, self.source_timeout);
                agreed.inspect_err(|_| lost::leave(&self.cache, &room))?;
                Ok(From::Room(room))
            }
        }
    }

    /// From here on, all bytes come from the own source. `delivered`: bytes of it that are delivered already, at the stream's position.
    pub fn go_alone(&mut self, cause: &Error, delivered: &[u8]) -> Result<()> {
        let level = if matches!(cause, Error::InvalidArgument(_)) { LogLevel::Info } else { LogLevel::Warning };
        self.cache
            .log()
            .write(level, || format!("{cause}; a stream of image '{}' goes on from its own source, alone", self.id));
        let mut expectations = Box::new(Expectations::of(self.expected.size(), self.expected.digests())?);
        // What was delivered so far counts and is hashed, so that the end has a verdict.
        let hashed = self.hash_delivered(&mut expectations, self.position).and_then(|()| {
            expectations.count(self.id.as_str(), delivered.len() as u64)?;
            expectations.hash(delivered);
            Ok(())
        });
        match &self.from {
            From::Room(room) if cause.is_no_space() => lost::leave_full_disk(&self.cache, room),
            From::Room(room) => lost::leave(&self.cache, room),
            _ => {}
        }
        self.role = StreamRole::Alone;
        self.from = From::Alone(expectations);
        hashed.inspect_err(|error| self.end = Some(Err(error.clone())))
    }

    /// Counts and hashes the image's first bytes, up to `end`, which were delivered.
    pub fn hash_delivered(&mut self, expectations: &mut Expectations, end: u64) -> Result<()> {
        if expectations.digests().is_empty() {
            return expectations.count(self.id.as_str(), end);
        }
        let mut buffer = memory::buffer(PIECE, "verify the image")?;
        let mut hashed = 0;
        while hashed < end {
            let most = usize::try_from(end - hashed).unwrap_or(PIECE).min(PIECE);
            let piece = &mut buffer[..most];
            let again = match &self.from {
                From::Cached(reader) => reader.read_at(hashed, piece),
                From::Room(room) => room.read_at(hashed, piece),
                From::Followed(file) => file.read_at(hashed, piece),
                From::Unknown | From::Alone(_) => Ok(0),
            };
            let length = match again {
                Ok(length) if length > 0 => length,
                _ => self.call(hashed, piece)?,
            };
            if length == 0 {
                let (expected, image_id) = (end, self.id.to_string());
                return Err(Error::SizeMismatch { image_id, expected, actual: hashed });
            }
            expectations.count(self.id.as_str(), length as u64)?;
            expectations.hash(&buffer[..length]);
            hashed += length as u64;
        }
        Ok(())
    }

    /// Calls the source once.
    pub fn call(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let failed = |cause: String| Error::Source { image_id: self.id.to_string(), cause };
        loop {
            return match self.source.read_at(offset, buffer) {
                Ok(length) if length <= buffer.len() => {
                    self.delivered.of_own_source += length as u64;
                    Ok(length)
                }
                Ok(length) => Err(failed(format!("it returned {length} bytes for a buffer of {}", buffer.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(failed(error.to_string())),
            };
        }
    }
}

impl<S: RangeSource> Drop for State<S> {
    /// A caller that knows the size need not read the end: with all bytes, this is it.
    fn drop(&mut self) {
        self.delivered.count(self.cache.counters());
        let From::Room(room) = &self.from else { return };
        if self.end.is_none()
            && let (Ok(progress), Ok(look)) = (room.progress(), room.look())
            && look.length == self.position
            && progress.complete_length() == Some(look.length)
        {
            // A mismatch is logged.
            self.end = conclude(&self.cache, room).ok().flatten();
        }
        if !matches!(self.end, Some(Ok(()))) {
            lost::leave(&self.cache, room);
        }
    }
}
