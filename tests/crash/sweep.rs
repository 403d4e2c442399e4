//! What the sweeps share: how one ends, and how its parts share the processors.

use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Completion, Failed};

/// Whether everything is swept, also what has an equal among the rest (`make test-crash`).
pub fn is_in_full() -> bool {
    std::env::var_os("IMAGE_CACHE_CRASH").is_some_and(|value| value == "all")
}

/// Why a sweep stops early.
pub enum Stop {
    NotPermitted,
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The result for the harness. A sweep that may not trace is ignored, with the reason.
pub fn completed(result: Result<(), Stop>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::NotPermitted) => Ok(Completion::ignored_with("ptrace is not permitted")),
        Err(Stop::Failed(failed)) => Err(failed),
    }
}

/// Runs the jobs on as many threads as there are processors. The first failure stops them.
pub fn in_parallel<J: Send>(jobs: Vec<J>, work: impl Fn(J) -> Result<(), Stop> + Sync) -> Result<(), Stop> {
    let jobs = Mutex::new(jobs);
    let failure = Mutex::new(None);
    let next = || {
        let has_failed = failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if has_failed { None } else { jobs.lock().unwrap_or_else(PoisonError::into_inner).pop() }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if let Err(stop) = work(job) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
