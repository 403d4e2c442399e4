//! Ctrl-C and SIGTERM: long work stops at its next step, and leaves nothing half done. A later second signal ends the process at once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::exit::{Exit, Failure};

/// Some programs send one signal twice: timeout(1) to the process, and to its group.
const TWICE: Duration = Duration::from_secs(1);

/// Whether a signal demands the end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    is_demanded: Arc<AtomicBool>,
    is_watching: Arc<AtomicBool>,
}

impl Stop {
    /// No signal is handled yet: short work ends at a signal as usual.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on signals are noted. Where they cannot be handled, they end the process as usual.
    pub fn watch(&self) {
        if self.is_watching.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
        let is_demanded = Arc::clone(&self.is_demanded);
        let watcher = move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                if first.get_or_insert_with(Instant::now).elapsed() >= TWICE {
                    let _ = emulate_default_handler(signal);
                }
                is_demanded.store(true, Ordering::Relaxed);
            }
        };
        // Without a thread, nothing can be stopped half-way; the work goes on.
        let _ = thread::Builder::new().name("signals".to_owned()).spawn(watcher);
    }

    /// Whether to stop.
    pub fn is_demanded(&self) -> bool {
        self.is_demanded.load(Ordering::Relaxed)
    }

    /// The same, for the library's progress functions.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.is_demanded() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The same, between two steps.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_demanded() { Err(Failure::new(Exit::Interrupted, "a signal stopped the command")) } else { Ok(()) }
    }
}
