//! How the program ends: its exit codes, and its failures with what to do about them.

use std::fmt;
use std::io;
use std::process::ExitCode;

use image_cache::Error;

use crate::units::size;

/// The exit code. The numbers are stable: `docs/image-cachectl.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it says.
    Done = 0,
    /// A failure without a number of its own.
    Failed = 1,
    /// The arguments, or the configuration file, are wrong. clap uses the same number.
    Usage = 2,
    /// The image is not there.
    NotFound = 3,
    /// Another one is in the way: the image is pinned, in use, being cached, or cached already.
    Busy = 4,
    /// Bytes are not those that were expected: a digest, a size, or a format that is refused.
    Damaged = 5,
    /// The disk or the limit has no room.
    NoRoom = 6,
    /// The directory has no cache.
    NoCache = 7,
    /// A check has findings: of `doctor`.
    Findings = 8,
    /// A signal stopped the command. What it did is complete, and the rest was not begun.
    Interrupted = 130,
    /// The program that reads the output has closed it.
    OutputClosed = 141,
}

impl Exit {
    /// Its name in the JSON of a failure.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Damaged => "damaged",
            Self::NoRoom => "no_room",
            Self::NoCache => "no_cache",
            Self::Findings => "findings",
            Self::Interrupted => "interrupted",
            Self::OutputClosed => "output_closed",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure: what failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed, without a full stop.
    pub message: String,
    /// What to do, as a sentence.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Wrong arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failed call of the operating system.
    pub fn io(operation: &str, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoRoom,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("cannot {operation}: {}", without_number(error)))
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The message of an error, without its number, which says nothing more.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(message, _)| message.to_owned())
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::InvalidArgument(_) | Error::InvalidImageId { .. } => Exit::Usage,
            Error::NotFound { .. } => Exit::NotFound,
            Error::AlreadyCached(_) | Error::BeingCached(_) | Error::Pinned { .. } => Exit::Busy,
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::Empty(_) | Error::Refused { .. } => {
                Exit::Damaged
            }
            Error::Stopped { .. } => Exit::Interrupted,
            error if error.is_no_space() => Exit::NoRoom,
            _ => Exit::Failed,
        };
        Self::new(exit, message(&error))
    }
}

/// The message of an error, with sizes and durations as people read them.
fn message(error: &Error) -> String {
    match error {
        Error::NoRoom { bytes, why, path } => {
            // Its numbers are bytes, or inodes.
            let why = if why.contains("inodes") { why.clone() } else { with_sizes(why) };
            format!("cannot make room for {}: {why}: '{}'", size(*bytes), path.display())
        }
        Error::PinnedFull { image_id, bytes, pinned, limit } => format!(
            "cannot pin image '{image_id}', which has {}: {} are pinned, and at most {} can be",
            size(*bytes),
            size(*pinned),
            size(*limit)
        ),
        error => error.to_string(),
    }
}

/// Replaces numbers of bytes.
fn with_sizes(text: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(end);
        replaced += before;
        replaced += &digits.parse().map_or_else(|_| digits.to_owned(), size);
        rest = after.strip_prefix(" bytes").unwrap_or(after);
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_become_sizes() {
        let text = "the limit is 1048576 bytes; 512 of them are taken up, and 7 more";
        assert_eq!(with_sizes(text), "the limit is 1.00 MiB; 512 B of them are taken up, and 7 B more");
        assert_eq!(with_sizes("none"), "none");
    }
}
