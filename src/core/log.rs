//! What happens that is no failure of the call, told to whoever listens. Nothing is ever printed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

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

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Log(function)" } else { "Log(nowhere)" })
    }
}
