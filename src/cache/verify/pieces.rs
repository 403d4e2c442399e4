//! The bytes of a file in pieces, for the one who hashes them. A thread reads the next pieces meanwhile, so that a long file takes as long
//! as the slower of both. Without a thread, each piece is read when it is needed. At most three pieces are in memory. Holes are not read.

use std::ffi::CStr;

use crate::digest::channel::{Receiver, Sender, channel};
use crate::error::Result;
use crate::sys::thread::{self, Thread};
use crate::sys::uncached::{AlignedBuffer, ReadFailure, UncachedFile};

const NAME: &CStr = c"image-verify";
const OPERATION: &str = "verify the image";

/// How many pieces a thread reads ahead, at most, with the one that is being hashed.
const BUFFERS: usize = 3;

/// A piece: its memory, and what it has.
type Piece = (AlignedBuffer, std::result::Result<Content, ReadFailure>);

/// How many bytes a piece has, and whether they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// In its memory. 0 when the file has become shorter.
    Read(usize),
    /// The zeros of a hole, which are not in the memory.
    Zeros(u64),
}

/// The bytes of a piece.
pub(super) enum Bytes<'a> {
    Data(&'a [u8]),
    Zeros(u64),
}

/// What reads the next piece.
struct Source {
    file: UncachedFile,
    offset: u64,
    /// Where the file ends, in bytes.
    end: u64,
    /// Where the hole at the offset ends, if there is one.
    hole_end: u64,
    /// The length of a piece, in bytes.
    piece: usize,
    /// That of a piece of a hole.
    zeros: u64,
}

impl Source {
    /// Neither allocates nor panics. Nothing follows a failed piece, or an empty one.
    fn read(&mut self, mut buffer: AlignedBuffer) -> Piece {
        if self.hole_end <= self.offset {
            self.hole_end = self.file.hole(self.offset, self.end).unwrap_or(0);
        }
        let content = if self.hole_end > self.offset {
            Ok(Content::Zeros((self.hole_end - self.offset).min(self.zeros)))
        } else {
            let piece = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(self.piece);
            self.file.read(self.offset, piece, &mut buffer).map(Content::Read)
        };
        match content {
            Ok(Content::Read(length @ 1..)) => self.offset += length as u64,
            Ok(Content::Zeros(length)) => self.offset += length,
            _ => self.end = self.offset,
        }
        (buffer, content)
    }

    fn is_at_end(&self) -> bool {
        self.offset >= self.end
    }
}

/// What the thread gets.
struct Job {
    source: Source,
    unused: Vec<AlignedBuffer>,
    empty: Receiver<AlignedBuffer>,
    full: Sender<Piece>,
}

impl Job {
    fn run(mut self) -> UncachedFile {
        while !self.source.is_at_end() {
            let Some(buffer) = self.unused.pop().or_else(|| self.empty.receive()) else { break };
            self.full.send(self.source.read(buffer));
        }
        self.source.file
    }
}

/// The pieces of a file.
pub(super) struct Pieces(Reading);

enum Reading {
    Inline {
        source: Source,
        buffer: Option<AlignedBuffer>,
    },
    /// Fields are dropped in their order: without the channels, the thread ends.
    Threaded {
        empty: Sender<AlignedBuffer>,
        full: Receiver<Piece>,
        _thread: Thread<Job, UncachedFile>,
    },
}

impl Pieces {
    /// Of the file's first `size` bytes, of so many each: of data, and of the zeros of a hole.
    pub fn new(file: UncachedFile, size: u64, piece: usize, zeros: u64) -> Result<Self> {
        let source = Source { file, offset: 0, end: size, hole_end: 0, piece, zeros };
        let most = usize::try_from(size).unwrap_or(usize::MAX).min(piece);
        let first = AlignedBuffer::new(most, OPERATION)?;
        // Starting a thread would cost more than it saves.
        if size <= 2 * piece as u64 {
            return Ok(Self(Reading::Inline { source, buffer: Some(first) }));
        }
        let mut unused = Vec::with_capacity(BUFFERS);
        unused.push(first);
        for _ in 1..BUFFERS {
            unused.push(AlignedBuffer::new(piece, OPERATION)?);
        }
        let ((empty, for_thread), (to_us, full)) = (channel(), channel());
        let job = Job { source, unused, empty: for_thread, full: to_us };
        Ok(Self(match thread::start(NAME, job, Job::run) {
            Ok(thread) => Reading::Threaded { empty, full, _thread: thread },
            Err(Job { source, mut unused, .. }) => Reading::Inline { source, buffer: unused.pop() },
        }))
    }

    /// Calls `take` with the bytes of the next piece. `None` at the end. A file that has become shorter ends earlier.
    pub fn next(&mut self, take: impl FnOnce(Bytes<'_>)) -> std::result::Result<Option<Content>, ReadFailure> {
        let piece = match &mut self.0 {
            Reading::Inline { source, buffer } if !source.is_at_end() => {
                buffer.take().map(|buffer| source.read(buffer))
            }
            Reading::Inline { .. } => None,
            Reading::Threaded { full, .. } => full.receive(),
        };
        let Some((memory, content)) = piece else { return Ok(None) };
        let content = content?;
        match content {
            Content::Read(0) => return Ok(None),
            Content::Read(length) => take(Bytes::Data(memory.first(length))),
            Content::Zeros(length) => take(Bytes::Zeros(length)),
        }
        match &mut self.0 {
            Reading::Inline { buffer, .. } => *buffer = Some(memory),
            Reading::Threaded { empty, .. } => empty.send(memory),
        }
        Ok(Some(content))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::sys::file::duplicated;

    #[test]
    fn pieces_are_the_file_whatever_its_length() {
        const PIECE: usize = 8192;
        for size in [0, 1, 4096, PIECE, 2 * PIECE, 2 * PIECE + 1, 9 * PIECE + 17] {
            let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&content, 0).unwrap();
            let mut pieces = Pieces::new(UncachedFile::new(file), size as u64, PIECE, u64::MAX).unwrap();
            let mut read = Vec::new();
            let mut take = |bytes: Bytes<'_>| match bytes {
                Bytes::Data(data) => read.extend_from_slice(data),
                Bytes::Zeros(length) => read.resize(read.len() + usize::try_from(length).unwrap(), 0),
            };
            while pieces.next(&mut take).unwrap().is_some() {}
            assert!(read == content, "{size}");
        }
    }

    #[test]
    fn holes_are_zeros_that_are_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"in the midst", (1 << 39) + 5).unwrap();
        let mut source = Source {
            file: UncachedFile::new(duplicated(&file, PathBuf::new).unwrap()),
            offset: 0,
            end: 1 << 40,
            hole_end: 0,
            piece: usize::MAX,
            zeros: u64::MAX,
        };
        let mut buffer = AlignedBuffer::new(4096, "test").unwrap();
        let mut contents = Vec::new();
        while !source.is_at_end() {
            let (back, content) = source.read(buffer);
            contents.push(content.unwrap());
            buffer = back;
        }
        assert!(
            matches!(contents[..], [Content::Zeros(before), Content::Read(4096), Content::Zeros(_)] if before == 1 << 39),
            "{contents:?}"
        );
    }

    #[test]
    fn a_reading_that_is_given_up_ends_its_thread_and_a_short_file_ends_early() {
        const PIECE: usize = 4096;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; 10 * PIECE], 0).unwrap();
        let mut pieces =
            Pieces::new(UncachedFile::new(duplicated(&file, PathBuf::new).unwrap()), 20 * PIECE as u64, PIECE, 1)
                .unwrap();
        assert_eq!(pieces.next(|_| {}), Ok(Some(Content::Read(PIECE))));
        drop(pieces);
        let mut pieces = Pieces::new(UncachedFile::new(file), 20 * PIECE as u64, PIECE, 1).unwrap();
        let mut read = 0;
        while let Some(Content::Read(length)) = pieces.next(|_| {}).unwrap() {
            read += length;
        }
        assert_eq!(read, 10 * PIECE);
    }
}
