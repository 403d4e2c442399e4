//! Points within an operation at which another one can run: before system calls by which processes see or change
//! something. The library calls libc; the functions here have the same names, and the linker prefers them.

use std::cell::RefCell;
use std::sync::mpsc::Sender;

use fastrand::Rng;
use libc::{c_char, c_int, c_void, size_t, stat64, timespec};
use rustix::process::{Signal, getpid, kill_process};

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// What a thread does at its points.
#[derive(Default)]
struct Plan {
    passed: usize,
    interleaved: Option<(usize, Box<dyn FnOnce()>)>,
    /// Receives `Blocked` when the thread waits for a lock.
    blocked: Option<Sender<Progress>>,
    /// Kills the process at a random point, one in so many.
    kill_at_random_point: Option<(Rng, u32)>,
}

/// The progress of an operation on another thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Blocked,
    Ended,
}

/// Runs `operation`, and `interleaved` at the point of that number. Returns how many points there were.
pub fn with_interleaved<T>(
    at: usize,
    interleaved: impl FnOnce() + 'static,
    operation: impl FnOnce() -> T,
) -> (T, usize) {
    PLAN.set(Plan { passed: 0, interleaved: Some((at, Box::new(interleaved))), ..Plan::default() });
    let result = operation();
    (result, PLAN.take().passed)
}

/// Runs `operation`; sends `Blocked` when it waits for a lock, and `Ended` at its end.
pub fn with_progress<T>(sender: &Sender<Progress>, operation: impl FnOnce() -> T) -> T {
    PLAN.set(Plan { blocked: Some(sender.clone()), ..Plan::default() });
    let result = operation();
    PLAN.take();
    // The receiver may have stopped after `Blocked`.
    let _ = sender.send(Progress::Ended);
    result
}

/// Kills this process at a random point of this thread, after about so many.
pub fn kill_at_random_point(random: Rng, points: u32) {
    PLAN.with_borrow_mut(|plan| plan.kill_at_random_point = Some((random, points)));
}

fn pass_point() {
    let interleaved = PLAN.try_with(|plan| {
        let mut plan = plan.borrow_mut();
        let is_now = plan.interleaved.as_ref().is_some_and(|(at, _)| *at == plan.passed);
        plan.passed += 1;
        if let Some((random, points)) = &mut plan.kill_at_random_point
            && random.u32(..*points) == 0
        {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        if is_now { plan.interleaved.take() } else { None }
    });
    // A thread that ends has lost its plan.
    if let Ok(Some((_, interleaved))) = interleaved {
        interleaved();
    }
}

fn send_blocked() {
    let sender = PLAN.try_with(|plan| plan.borrow_mut().blocked.take());
    if let Ok(Some(sender)) = sender {
        let _ = sender.send(Progress::Blocked);
    }
}

fn to_int(result: i64) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

/// The library's locks. The third argument is variable; it is passed in the same register as a fixed one.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(descriptor: c_int, command: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments are passed on unchanged.
    let call = || to_int(unsafe { libc::syscall(libc::SYS_fcntl, descriptor, command, argument) });
    if command != libc::F_OFD_SETLK {
        return call();
    }
    pass_point();
    let result = call();
    // The lock is another's, and the library will try again.
    if result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) {
        send_blocked();
        // What this called may have changed it.
        // SAFETY: it is this thread's.
        unsafe { *libc::__errno_location() = libc::EAGAIN };
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn futimens(descriptor: c_int, times: *const timespec) -> c_int {
    pass_point();
    // SAFETY: the caller's times are passed on unchanged.
    to_int(unsafe { libc::syscall(libc::SYS_utimensat, descriptor, std::ptr::null::<c_char>(), times, 0) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fstat64(descriptor: c_int, metadata: *mut stat64) -> c_int {
    pass_point();
    // SAFETY: the caller's buffer is passed on unchanged; the kernel's structure is the C library's.
    to_int(unsafe { libc::syscall(libc::SYS_fstat, descriptor, metadata) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fstatat64(directory: c_int, path: *const c_char, metadata: *mut stat64, flags: c_int) -> c_int {
    pass_point();
    // SAFETY: the caller's path and buffer are passed on unchanged; the kernel's structure is the C library's.
    to_int(unsafe { libc::syscall(libc::SYS_newfstatat, directory, path, metadata, flags) })
}

#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    pass_point();
    // SAFETY: the system call takes any number.
    to_int(unsafe { libc::syscall(libc::SYS_fsync, descriptor) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    pass_point();
    // SAFETY: the caller's path is passed on unchanged.
    to_int(unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsetxattr(
    descriptor: c_int,
    name: *const c_char,
    value: *const c_void,
    size: size_t,
    flags: c_int,
) -> c_int {
    pass_point();
    // SAFETY: the caller's name and value are passed on unchanged.
    to_int(unsafe { libc::syscall(libc::SYS_fsetxattr, descriptor, name, value, size, flags) })
}
