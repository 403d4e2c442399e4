//! Signal masks of the calling thread: none of the host's signals reaches a thread of ours, no write raises SIGXFSZ,
//! and no lease SIGIO.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use rustix::process::{Resource, getrlimit};

/// Blocks all signals on this thread until it is dropped.
pub(crate) struct AllBlocked {
    /// The mask that is restored.
    before: libc::sigset_t,
}

impl AllBlocked {
    pub fn new() -> Self {
        Self { before: set_mask(libc::SIG_SETMASK, &all()) }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Runs `write` without SIGXFSZ, which a write beyond the process's limit on file sizes raises, and which ends the host. Such a
/// write fails with `EFBIG`, and no signal stays pending.
pub(crate) fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    // `ulimit -f`
    if getrlimit(Resource::Fsize).current.is_none() {
        return write();
    }
    let blocked = SignalBlocked::new(libc::SIGXFSZ, None);
    let result = write();
    drop(blocked);
    result
}

/// Blocks a signal on this thread, to which the kernel sends it, until it is dropped. Consumes it if it is pending then, and was
/// not before.
pub(crate) struct SignalBlocked {
    signal: libc::c_int,
    /// The descriptor for which the kernel sends it, if it says so (`F_SETSIG`). One for something else is not consumed.
    descriptor: Option<RawFd>,
    /// The mask that is restored.
    before: libc::sigset_t,
    /// The signal was pending before: it is not ours to consume.
    was_pending: bool,
}

impl SignalBlocked {
    pub fn new(signal: libc::c_int, descriptor: Option<RawFd>) -> Self {
        let before = set_mask(libc::SIG_BLOCK, &only(signal));
        Self { signal, descriptor, before, was_pending: is_pending(signal) }
    }
}

impl Drop for SignalBlocked {
    fn drop(&mut self) {
        if !self.was_pending && is_pending(self.signal) {
            consume(self.signal, self.descriptor, &self.before);
        }
        set_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Every signal except those that the C library uses internally.
#[allow(unsafe_code, reason = "signal masks")]
fn all() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// A set of one signal.
#[allow(unsafe_code, reason = "signal masks")]
fn only(signal: libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, and the callers name signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        set.assume_init()
    }
}

/// Changes this thread's mask, and returns the one before.
#[allow(unsafe_code, reason = "signal masks")]
fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both pointers are valid, and pthread_sigmask fills the second set. It fails for an unknown `how` only.
    unsafe {
        libc::pthread_sigmask(how, ptr::from_ref(set), before.as_mut_ptr());
        before.assume_init()
    }
}

#[allow(unsafe_code, reason = "signal masks")]
fn is_pending(signal: libc::c_int) -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: sigpending initialises the set.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), signal) == 1
    }
}

/// The fields of `siginfo_t` that a signal of `F_SETSIG` has. The libc crate lacks them.
#[repr(C)]
struct FileSignal {
    numbers: [libc::c_int; 3],
    _band: libc::c_long,
    descriptor: libc::c_int,
}

/// Takes a pending signal. One that is another descriptor's, or another process's, is sent again: to this thread as it was, or to the
/// process if the mask `before` blocks it here.
#[allow(unsafe_code, reason = "signal masks")]
fn consume(signal: libc::c_int, descriptor: Option<RawFd>, before: &libc::sigset_t) {
    let set = only(signal);
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut details = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the set, the time and the details are valid.
    let taken = unsafe { libc::sigtimedwait(&raw const set, details.as_mut_ptr(), &raw const no_time) };
    let Some(descriptor) = descriptor.filter(|_| taken == signal) else { return };
    // SAFETY: the details are zeroed at least, and longer than these fields, which are integers.
    let FileSignal { numbers: [_, _, code], descriptor: sender, .. } =
        unsafe { details.as_ptr().cast::<FileSignal>().read() };
    // The codes of descriptors are POLL_IN to POLL_HUP; those of other senders are 0, negative, or SI_KERNEL.
    if (1..0x80).contains(&code) && sender == descriptor {
        return;
    }
    // SAFETY: the details are those of the kernel, which lets a thread send them to itself only.
    unsafe {
        if libc::sigismember(before, signal) == 1 {
            // Another thread waits for it.
            libc::kill(libc::getpid(), signal);
        } else {
            libc::syscall(libc::SYS_rt_tgsigqueueinfo, libc::getpid(), libc::gettid(), signal, details.as_ptr());
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "signals")]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static SIGNALS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_signal: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn the_signal_of_a_descriptor_is_consumed_and_others_reach_the_host() {
        const SET_SIGNAL: libc::c_int = 10; // F_SETSIG
        let (socket, mut sender) = UnixStream::pair().unwrap();
        let number = socket.as_raw_fd();
        // SAFETY: the calls take numbers, and a handler that adds to a number. No other test of this process uses SIGIO.
        unsafe {
            libc::signal(libc::SIGIO, count as *const () as libc::sighandler_t);
            libc::fcntl(number, SET_SIGNAL, libc::SIGIO);
            libc::fcntl(number, libc::F_SETFL, libc::O_ASYNC);
        }
        let mut raise_for = |descriptor| {
            let blocked = SignalBlocked::new(libc::SIGIO, Some(descriptor));
            let owner = [0, rustix::thread::gettid().as_raw_nonzero().get()]; // F_OWNER_TID
            // SAFETY: the pointer is valid for the call, F_SETOWN_EX.
            unsafe { libc::fcntl(number, 15, owner.as_ptr()) };
            sender.write_all(b"x").unwrap();
            assert!(is_pending(libc::SIGIO));
            drop(blocked);
        };
        raise_for(number);
        assert_eq!(SIGNALS.load(Ordering::SeqCst), 0);
        raise_for(number + 1);
        assert_eq!(SIGNALS.load(Ordering::SeqCst), 1);
    }
}
