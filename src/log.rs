//! Messages to the host's log function, about events that no call returns as a failure. Nothing is ever printed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed in a call that cannot return an error, such as closing a handle.
    Error,
    /// The cache continued despite a failure: caching was given up, hits were not counted, an index was rebuilt.
    Warning,
    /// For operators: what was adopted, taken over, or repaired.
    Info,
    /// For developers.
    Debug,
}

/// The host's log function. It may be called on every thread that calls the library, while the cache's locks are held, so it
/// must not call the library.
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

/// Escapes control characters. File names and messages of sources must not add lines to a log, or control a terminal.
fn in_one_line(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return Cow::Borrowed(message);
    }
    let escape = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    Cow::Owned(message.chars().map(escape).collect())
}

/// Logs a repeated failure once: the first one after each success.
#[derive(Debug, Default)]
pub(crate) struct LogOnce(AtomicBool);

impl LogOnce {
    /// Logs a failure, unless the previous call failed as well.
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

/// Failures that concern one image of many. Each is logged, the image is skipped, and the operation goes on.
#[derive(Debug)]
pub(crate) struct SkippedErrors<'a> {
    log: &'a Log,
    count: u64,
    first: Option<Error>,
}

impl<'a> SkippedErrors<'a> {
    pub fn new(log: &'a Log) -> Self {
        Self { log, count: 0, first: None }
    }

    /// The value; a failure is logged and counted.
    pub fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                self.log.warning(|| error.to_string());
                self.count += 1;
                self.first.get_or_insert(error);
            })
            .ok()
    }

    /// As [`Self::note`], but without the cache lock nothing can be done for the other images either: each would wait for it again.
    pub fn note_unless_timed_out<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error @ Error::TimedOut { .. }) => Err(error),
            result => Ok(self.note(result)),
        }
    }

    /// The number of failures.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first failure.
    pub fn into_first(self) -> Option<Error> {
        self.first
    }

    /// The value, or the first failure.
    pub fn outcome<T>(self, value: T) -> Result<T> {
        self.first.map_or(Ok(value), Err)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Log(function)" } else { "Log(nowhere)" })
    }
}
