//! What happens that is no failure of the call, told to whoever listens. Nothing is ever printed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed, and the call could not say so (closing a reader, the end of a handle).
    Error,
    /// The cache went on in spite of something: caching given up, hits not counted, an index rebuilt.
    Warning,
    /// What an operator wants to know: what was adopted, taken over, or repaired.
    Info,
    /// What only a developer wants to know.
    Debug,
}

/// Where messages go. The function may be called from every thread that calls the library, while locks of the cache
/// are held: it must not call the library.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Function>>);

type Function = dyn Fn(LogLevel, &str) + Send + Sync;

impl Log {
    /// Sends each message to `function`.
    pub fn new(function: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    pub(crate) fn write(&self, level: LogLevel, message: impl FnOnce() -> String) {
        if let Some(function) = &self.0 {
            function(level, &in_one_line(&message()));
        }
    }

    pub(crate) fn error(&self, message: impl FnOnce() -> String) {
        self.write(LogLevel::Error, message);
    }

    pub(crate) fn warning(&self, message: impl FnOnce() -> String) {
        self.write(LogLevel::Warning, message);
    }

    pub(crate) fn info(&self, message: impl FnOnce() -> String) {
        self.write(LogLevel::Info, message);
    }
}

/// A message with its control characters escaped: file names, and what a source said, are not to write lines of their own
/// into a log, nor to command a terminal.
fn in_one_line(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return Cow::Borrowed(message);
    }
    let escape = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    Cow::Owned(message.chars().map(escape).collect())
}

/// Tells a failure that repeats itself once: the first of each row of failures.
#[derive(Debug, Default)]
pub(crate) struct Once(AtomicBool);

impl Once {
    /// Logs a failure, unless the one before it was logged and nothing has succeeded since.
    pub fn note<T>(&self, result: Result<T>, log: &Log, message: impl FnOnce(Error) -> String) {
        let failed = result.is_err();
        let is_repeated = self.0.swap(failed, Ordering::Relaxed);
        if let Err(error) = result
            && !is_repeated
        {
            log.warning(|| message(error));
        }
    }
}

/// Failures that concern one image of many, each told to the log: the others are gone on with.
#[derive(Debug)]
pub(crate) struct Missed<'a> {
    log: &'a Log,
    count: u64,
    first: Option<Error>,
}

impl<'a> Missed<'a> {
    pub fn new(log: &'a Log) -> Self {
        Self { log, count: 0, first: None }
    }

    /// The value, if there is one.
    pub fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                self.log.warning(|| error.to_string());
                self.count += 1;
                self.first.get_or_insert(error);
            })
            .ok()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first failure.
    pub fn into_first(self) -> Option<Error> {
        self.first
    }

    /// The value, unless something was missed.
    pub fn outcome<T>(self, value: T) -> Result<T> {
        self.first.map_or(Ok(value), Err)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Log(function)" } else { "Log(nowhere)" })
    }
}
