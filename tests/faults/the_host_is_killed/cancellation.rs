//! `pthread_cancel`: no call is a cancellation point, and no callback within one.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings};
use crate::child::{ChildProcess, say};
use crate::machine::{scratch, text, trials};
use crate::operations::{self, Operation};

pub fn trials_of_kind() -> Vec<Trial> {
    [
        trials("the_host_is_killed::a_thread_is_cancelled_before_a_call", &[], |driver| {
            in_child("cancel before", driver)
        }),
        trials("the_host_is_killed::a_thread_is_cancelled_within_a_call", &[], |driver| {
            in_child("cancel within", driver)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("cancel before", [driver, directory]) => cancel_before(Driver::of_name(driver), Path::new(directory)),
        ("cancel within", [driver, directory]) => cancel_within(Driver::of_name(driver), Path::new(directory)),
        _ => return false,
    }
    true
}

fn in_child(task: &str, driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let mut child = ChildProcess::start(task, &[driver.name(), text(&scratch.path().join("cache"))]);
    child.expect("all returned")?;
    child.finish()
}

unsafe extern "C" {
    fn pthread_cancel(thread: libc::pthread_t) -> i32;
}

unsafe extern "C-unwind" {
    /// Unwinds a cancelled thread.
    fn pthread_testcancel();
}

/// A thread that the standard library does not know: it may be cancelled.
fn start(function: extern "C-unwind" fn(*mut c_void) -> *mut c_void, argument: *mut c_void) -> libc::pthread_t {
    let mut thread = 0;
    // SAFETY: the two kinds of function differ only in that one may unwind, which glibc expects of a cancelled thread.
    let function = unsafe {
        std::mem::transmute::<extern "C-unwind" fn(*mut c_void) -> *mut c_void, extern "C" fn(*mut c_void) -> *mut c_void>(
            function,
        )
    };
    // SAFETY: the caller joins the thread before the argument ends.
    assert_eq!(unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), function, argument) }, 0);
    thread
}

/// Waits for a thread's end. Whether it was cancelled.
fn join(thread: libc::pthread_t) -> bool {
    let mut result = null_mut();
    // SAFETY: the thread was not joined before.
    assert_eq!(unsafe { libc::pthread_join(thread, &raw mut result) }, 0);
    // `PTHREAD_CANCELED`
    result as isize == -1
}

struct Job<'a> {
    cache: &'a Cache,
    operation: Operation,
    has_returned: AtomicBool,
}

/// Has a request for its cancellation pending in the call. No value of it needs a drop: it is unwound.
extern "C-unwind" fn perform_cancelled(job: *mut c_void) -> *mut c_void {
    // SAFETY: the job lives until the thread was joined.
    unsafe {
        let job = &*job.cast::<Job<'_>>();
        pthread_cancel(libc::pthread_self());
        (job.operation)(job.cache);
        job.has_returned.store(true, Ordering::SeqCst);
        pthread_testcancel();
    }
    null_mut()
}

fn cancel_before(driver: Driver, directory: &Path) {
    let cache = operations::open(directory, driver).unwrap();
    let open_and_close: Operation = |_| 0;
    for &(name, operation) in operations::ALL.iter().chain(&[("nothing", open_and_close)]) {
        let mut job = Job { cache: &cache, operation, has_returned: AtomicBool::new(false) };
        let was_cancelled = join(start(perform_cancelled, (&raw mut job).cast()));
        if !job.has_returned.load(Ordering::SeqCst) {
            return say(&format!("{name}: the call was a cancellation point"));
        }
        if !was_cancelled {
            return say(&format!("{name}: the thread was not cancelled after the call"));
        }
    }
    if let Err(failure) = operations::check_kept(&cache) {
        return say(&format!("afterwards: {failure}"));
    }
    say("all returned");
}

struct Loop<'a> {
    cache: &'a Cache,
    directory: &'a Path,
    driver: Driver,
    calls: AtomicU64,
}

extern "C-unwind" fn call_until_cancelled(argument: *mut c_void) -> *mut c_void {
    // SAFETY: the argument lives until the thread was joined.
    unsafe {
        let argument = &*argument.cast::<Loop<'_>>();
        loop {
            for (_, operation) in operations::ALL {
                operation(argument.cache);
                argument.calls.fetch_add(1, Ordering::SeqCst);
                pthread_testcancel();
            }
            drop(Cache::open(argument.directory, Settings::new(argument.driver)));
            pthread_testcancel();
        }
    }
}

fn cancel_within(driver: Driver, directory: &Path) {
    const ROUNDS: u64 = 60;
    let cache = operations::open(directory, driver).unwrap();
    for round in 0..ROUNDS {
        let mut argument = Loop { cache: &cache, directory, driver, calls: AtomicU64::new(0) };
        let thread = start(call_until_cancelled, (&raw mut argument).cast());
        // The request comes within another call in each round.
        let calls = &argument.calls;
        while calls.load(Ordering::SeqCst) < round % operations::ALL.len() as u64 {
            std::hint::spin_loop();
        }
        // SAFETY: the thread was not joined yet.
        unsafe { pthread_cancel(thread) };
        if !join(thread) {
            return say("the thread was not cancelled");
        }
    }
    // A cancelled thread left no lock behind.
    for (name, operation) in operations::ALL {
        let status = operation(&cache);
        if status != 0 && !name.starts_with("write") && *name != "tee" {
            return say(&format!("afterwards: {name}: {status}"));
        }
    }
    if let Err(failure) = operations::check_kept(&cache) {
        return say(&format!("afterwards: {failure}"));
    }
    say("all returned");
}
