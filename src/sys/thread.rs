//! Threads of the library's own, to which no signal of the host is delivered; and the cancellation of the host's threads.
//!
//! The threads are the C library's. One of `std::thread` allocates after it was started: its handle, its name, a stack for signal
//! handlers. Without memory for these it panics before it calls anything of ours, and without memory a panic is an abort, or a
//! thread that never ends. Here, all that may fail fails in [`start`], and the new thread allocates nothing. It does not use Rust's
//! thread-local variables either: in a library that was loaded by `dlopen`, the first use allocates, and glibc aborts when it fails.

use std::ffi::{CStr, c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::sys::signals::AllBlocked;

/// Their stack, in bytes. They call little, and a host may have many of them.
const STACK: usize = 256 << 10;

/// Keeps `pthread_cancel` from ending the calling thread until it is dropped. A cancelled thread unwinds as by a C++ exception,
/// which no Rust function survives: the process aborts. The thread is cancelled at a later cancellation point of the host's own.
pub(crate) struct CancellationDisabled {
    /// The state that is restored.
    before: c_int,
}

impl CancellationDisabled {
    pub fn new() -> Self {
        const DISABLE: c_int = 1; // PTHREAD_CANCEL_DISABLE, with glibc and with musl
        Self { before: set_cancel_state(DISABLE) }
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        set_cancel_state(self.before);
    }
}

/// Sets this thread's cancel state, and returns the one before.
#[allow(unsafe_code, reason = "the libc crate lacks this function")]
fn set_cancel_state(state: c_int) -> c_int {
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }
    let mut before = 0;
    // SAFETY: the pointer is valid for the call. It fails for an unknown state only.
    unsafe { pthread_setcancelstate(state, &raw mut before) };
    before
}

/// A thread of ours. It is waited for when this is dropped.
pub(crate) struct Thread<A, R> {
    /// `None` after it ended.
    id: Option<Id>,
    /// One task, which is the thread's until it ended. It is a vector because there are no other boxes that may fail.
    task: Vec<Task<A, R>>,
}

struct Id(libc::pthread_t);

// SAFETY: any thread may wait for a thread. With musl, the type is a pointer.
#[allow(unsafe_code, reason = "the id of a thread, which is a number with glibc")]
unsafe impl Send for Id {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "the id of a thread, which is a number with glibc")]
unsafe impl Sync for Id {}

struct Task<A, R> {
    name: &'static CStr,
    work: fn(A) -> R,
    /// `None` since the work began.
    argument: Option<A>,
    /// `None` until the work ended, and after a panic.
    result: Option<R>,
}

/// Calls `work` on a thread with all signals blocked: a thread inherits the mask of its creator. The kernel shows the first 15
/// bytes of the name. Returns the argument when no thread can be started, for lack of memory or because of a limit.
///
/// `work` must not allocate. It should not panic either: without memory, a panic aborts the process.
pub(crate) fn start<A: Send + 'static, R: Send + 'static>(
    name: &'static CStr,
    argument: A,
    work: fn(A) -> R,
) -> Result<Thread<A, R>, A> {
    let mut task = Vec::new();
    if task.try_reserve_exact(1).is_err() {
        return Err(argument);
    }
    task.push(Task { name, work, argument: Some(argument), result: None });
    let blocked = AllBlocked::new();
    let id = create(run::<A, R>, task.as_mut_ptr().cast());
    drop(blocked);
    if id.is_none()
        && let Some(argument) = task.pop().and_then(|task| task.argument)
    {
        return Err(argument);
    }
    Ok(Thread { id, task })
}

impl<A, R> Thread<A, R> {
    /// Waits for the end of the work. `None` when it panicked.
    pub fn join(mut self) -> Option<R> {
        self.wait();
        self.task.pop()?.result
    }

    #[allow(unsafe_code, reason = "threads that need no memory")]
    fn wait(&mut self) {
        let Some(Id(id)) = self.id.take() else { return };
        // SAFETY: the thread was neither waited for nor detached. Nobody needs its result.
        let failed = unsafe { libc::pthread_join(id, ptr::null_mut()) };
        if failed != 0 {
            // It cannot be: only a thread that waits for itself or an unknown one fails. The task may still be in use.
            mem::forget(mem::take(&mut self.task));
        }
    }
}

impl<A, R> Drop for Thread<A, R> {
    fn drop(&mut self) {
        self.wait();
    }
}

/// What a thread calls, with the pointer that was given to [`create`].
type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// Creates a thread; `None` when that fails.
#[allow(unsafe_code, reason = "threads that need no memory")]
fn create(start: Start, task: *mut c_void) -> Option<Id> {
    let mut attributes = MaybeUninit::uninit();
    let mut id = MaybeUninit::uninit();
    // SAFETY: pthread_attr_init initialises the attributes, which are destroyed once. When it succeeds, pthread_create initialises
    // the id. What `start` does with `task` is for the caller to ensure.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return None;
        }
        // It fails where the system needs larger stacks.
        let mut failed = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
        if failed == 0 {
            failed = libc::pthread_create(id.as_mut_ptr(), attributes.as_ptr(), start, task);
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (failed == 0).then(|| Id(id.assume_init()))
    }
}

/// The thread. A panic ends here, since nothing may unwind into the C library.
#[allow(unsafe_code, reason = "threads that need no memory")]
extern "C" fn run<A, R>(task: *mut c_void) -> *mut c_void {
    // SAFETY: `start` made the task, with these types. Nobody else uses it, or frees it, until this thread was waited for.
    let task = unsafe { &mut *task.cast::<Task<A, R>>() };
    let _ = rustix::thread::set_name(task.name);
    if let Some(argument) = task.argument.take() {
        task.result = catch_unwind(AssertUnwindSafe(|| (task.work)(argument))).ok();
    }
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &CStr = c"image-test";

    #[test]
    fn a_thread_returns_its_result() {
        let thread = start(NAME, "argument".to_owned(), |argument| argument + " and more").ok();
        assert_eq!(thread.and_then(Thread::join).as_deref(), Some("argument and more"));
    }

    #[test]
    fn a_panic_ends_the_thread_and_drops_what_it_has() {
        let held = std::sync::Arc::new(());
        // No hook is called.
        let work = |_| -> () { std::panic::resume_unwind(Box::new("a defect")) };
        let thread = start(NAME, std::sync::Arc::clone(&held), work).ok();
        assert_eq!(thread.map(Thread::join), Some(None));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_dropped_thread_is_waited_for() {
        let held = std::sync::Arc::new(());
        drop(start(NAME, std::sync::Arc::clone(&held), |_held| std::thread::yield_now()));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_thread_of_ours_has_its_name_and_no_signal() {
        let look = |()| (rustix::thread::name(), std::fs::read_to_string("/proc/thread-self/status"));
        let (name, status) = start(NAME, (), look).ok().and_then(Thread::join).unwrap();
        assert_eq!(name.unwrap().as_c_str(), NAME);
        // All but SIGKILL, SIGSTOP, and those that the C library needs.
        let blocked =
            status.unwrap().lines().find_map(|line| line.strip_prefix("SigBlk:\t").map(str::to_owned)).unwrap();
        assert_eq!(u64::from_str_radix(&blocked, 16).unwrap() | 0x3_8004_0100, u64::MAX, "{blocked}");
    }
}
