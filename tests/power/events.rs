//! What a workload reports while it runs, one line for each event. A promise counts from the moment of its line.

use std::fmt;
use std::str::FromStr;

use crate::content::Version;

/// A worker's action, as far as it changes which image may be there after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Commits a version of an image.
    Commit {
        id: String,
        version: Version,
        durable: bool,
    },
    /// Deletes an image.
    Remove {
        id: String,
    },
    /// Deletes or prunes any images.
    RemoveAny,
    /// Closes the worker's cache.
    Close,
    /// Pins an image for a day.
    Pin {
        id: String,
        durable: bool,
    },
    Unpin {
        id: String,
    },
    /// Sets the directory's hard limit.
    Limit {
        bytes: u64,
    },
    /// Changes no image.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker is about to perform the action.
    Begin(usize, Action),
    /// The worker's action has returned success.
    End(usize),
    /// The version of an image at the workload's start; `None` where it was not cached.
    Found(String, Option<Version>),
    /// The worker's action has failed, which only a cut may cause.
    Failed(usize, String),
    /// The cache served something wrong.
    Wrong(String),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(worker, action) => write!(formatter, "begins {worker} {action}"),
            Self::End(worker) => write!(formatter, "ended {worker}"),
            Self::Found(id, Some(version)) => write!(formatter, "found {id} {version}"),
            Self::Found(id, None) => write!(formatter, "found {id} nothing"),
            Self::Failed(worker, why) => write!(formatter, "failed {worker} {}", why.replace('\n', " ")),
            Self::Wrong(what) => write!(formatter, "wrong {}", what.replace('\n', " ")),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { id, version, durable: true } => write!(formatter, "commit {id} {version} durable"),
            Self::Commit { id, version, durable: false } => write!(formatter, "commit {id} {version} unsynced"),
            Self::Remove { id } => write!(formatter, "remove {id}"),
            Self::RemoveAny => write!(formatter, "remove_any"),
            Self::Close => write!(formatter, "close"),
            Self::Pin { id, durable: true } => write!(formatter, "pin {id} durable"),
            Self::Pin { id, durable: false } => write!(formatter, "pin {id} unsynced"),
            Self::Unpin { id } => write!(formatter, "unpin {id}"),
            Self::Limit { bytes } => write!(formatter, "limit {bytes}"),
            Self::Other(what) => write!(formatter, "other {what}"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("not a line of a events: {line:?}"))
    }
}

fn parse(line: &str) -> Option<Event> {
    let (kind, rest) = line.split_once(' ')?;
    if kind == "wrong" {
        return Some(Event::Wrong(rest.to_owned()));
    }
    let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match kind {
        "begins" => Event::Begin(first.parse().ok()?, parse_action(rest)?),
        "ended" => Event::End(first.parse().ok()?),
        "found" if rest == "nothing" => Event::Found(first.to_owned(), None),
        "found" => Event::Found(first.to_owned(), Some(rest.parse().ok()?)),
        "failed" => Event::Failed(first.parse().ok()?, rest.to_owned()),
        _ => return None,
    })
}

fn parse_action(text: &str) -> Option<Action> {
    let words: Vec<_> = text.split(' ').collect();
    Some(match words[..] {
        ["commit", id, version, durability] => {
            Action::Commit { id: id.to_owned(), version: version.parse().ok()?, durable: durability == "durable" }
        }
        ["remove", id] => Action::Remove { id: id.to_owned() },
        ["pin", id, durability] => Action::Pin { id: id.to_owned(), durable: durability == "durable" },
        ["unpin", id] => Action::Unpin { id: id.to_owned() },
        ["limit", bytes] => Action::Limit { bytes: bytes.parse().ok()? },
        ["remove_any"] => Action::RemoveAny,
        ["close"] => Action::Close,
        ["other", what] => Action::Other(what.to_owned()),
        _ => return None,
    })
}
