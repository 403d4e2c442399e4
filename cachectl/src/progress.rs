//! Progress bars on stderr. There are none when stderr is no terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars of a run. Messages are printed above them.
#[derive(Debug, Clone)]
pub struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// Bars, or none.
    pub fn new(is_hidden: bool) -> Self {
        let target = if is_hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bars: MultiProgress::with_draw_target(target) }
    }

    /// A bar for so many bytes; 0: unknown. It vanishes when it is dropped.
    pub fn bytes(&self, message: &str, total: u64) -> Bar {
        let bar = self.bars.add(ProgressBar::no_length());
        bar.set_message(message.to_owned());
        let bar = Bar { bar };
        bar.set_length(total);
        bar
    }

    /// Prints a message, and draws the bars again.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bars.suspend(print);
    }
}

/// A bar.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// Sets its length in bytes; 0: unknown.
    fn set_length(&self, total: u64) {
        let template = if total > 0 {
            "{msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
        } else {
            "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}"
        };
        // A template that cannot be parsed is a mistake in this file, and the default is shown instead.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        if total > 0 {
            self.bar.set_length(total);
        }
    }

    /// So many bytes are done, of so many.
    pub fn set(&self, done: u64, total: u64) {
        if total > 0 && self.bar.length() != Some(total) {
            self.set_length(total);
        }
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
