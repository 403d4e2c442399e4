//! What happens at a fork: a child gets another generation, and code that holds process-wide locks is kept apart from forks.
//!
//! The handlers run at each fork (`pthread_atfork`). A child counts one generation more than its parent, so it can distinguish its own
//! handles from inherited ones. Process ids cannot: in a new PID namespace, a child can have its parent's id.
//!
//! SQLite holds process-wide locks. A child that inherits one which another thread held would hang in its first use of SQLite,
//! whichever file it opens. [`enter`] marks a thread as inside of such code. The handlers keep new threads out, and
//! wait until no other thread is inside. They wait up to 1 s: the host's fork must not depend on a slow disk. After a longer
//! wait the fork goes on, and its child may not enter any more: it gets an error instead of a hang.
//!
//! A thread can fork while it is inside itself, from the host's log function. It does not wait for itself: it is between two
//! calls, and holds none of those locks.
//!
//! No mutex is used, since a child would inherit it. The handlers allocate nothing. The library is never unloaded (see `build.rs`),
//! so they stay valid; of a plugin that contains the static library, the C library removes them at `dlclose`. A child that is made
//! without the handlers (`_Fork`, a bare `clone`) has no such protection; one of `vfork` and `posix_spawn` needs none.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a fork waits for threads that are inside.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two reads of [`STATE`].
const PAUSE: Duration = Duration::from_micros(50);

/// One forking thread in [`STATE`].
const FORKING: u64 = 1 << 32;

/// How many threads are inside, in the lower half. How many are about to fork, in the upper half.
static STATE: AtomicU64 = AtomicU64::new(0);

/// How many forks led to this process, since the handlers were registered in an ancestor.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A fork of this process or of an ancestor did not wait long enough.
static IS_UNUSABLE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// How many [`Inside`] this thread has.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether no other thread was inside when this thread forked.
    static WAS_APART: Cell<bool> = const { Cell::new(true) };
}

/// The generation of this process, which differs from those of its ancestors and descendants.
pub(crate) fn generation() -> u64 {
    register();
    GENERATION.load(Ordering::Relaxed)
}

/// This thread is inside until it is dropped.
pub(crate) struct Inside {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

/// Enters, after a fork that is under way. `None` in a child whose parent had another thread inside at the fork.
pub(crate) fn enter() -> Option<Inside> {
    register();
    if IS_UNUSABLE.load(Ordering::Relaxed) {
        return None;
    }
    let depth = DEPTH.get();
    if depth == 0 {
        let entered = |state| (state < FORKING).then_some(state + 1);
        while STATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, entered).is_err() {
            std::thread::sleep(PAUSE);
        }
    }
    DEPTH.set(depth + 1);
    Some(Inside { _thread: PhantomData })
}

impl Drop for Inside {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            STATE.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Registers the handlers. Two threads may do so at once: nothing breaks if each handler runs twice.
fn register() {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    if !IS_REGISTERED.load(Ordering::Acquire) {
        IS_REGISTERED.store(add_handlers(), Ordering::Release);
    }
}

/// False without memory for them: forks then are as they were.
#[cold]
#[allow(unsafe_code, reason = "the C library's fork handlers")]
fn add_handlers() -> bool {
    unsafe extern "C" {
        // From the part of the C library that is linked into each shared object, so that the handlers go with the object.
        fn pthread_atfork(
            prepare: Option<unsafe extern "C" fn()>,
            parent: Option<unsafe extern "C" fn()>,
            child: Option<unsafe extern "C" fn()>,
        ) -> libc::c_int;
    }
    // SAFETY: the three functions may be called at any fork.
    unsafe { pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) == 0 }
}

fn own_count() -> u64 {
    u64::from(DEPTH.get() > 0)
}

extern "C" fn before_fork() {
    STATE.fetch_add(FORKING, Ordering::AcqRel);
    let begin = Instant::now();
    let is_apart = loop {
        let is_apart = STATE.load(Ordering::Acquire) % FORKING == own_count();
        if is_apart || begin.elapsed() > PATIENCE {
            break is_apart;
        }
        std::thread::sleep(PAUSE);
    };
    WAS_APART.set(is_apart);
}

extern "C" fn after_fork_in_parent() {
    STATE.fetch_sub(FORKING, Ordering::AcqRel);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    STATE.store(own_count(), Ordering::Release);
    if !WAS_APART.get() {
        IS_UNUSABLE.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_enters_more_than_once_and_a_fork_does_not_wait_for_it() {
        let outer = enter().unwrap();
        drop(enter().unwrap());
        assert_eq!(own_count(), 1);
        drop(outer);
        assert_eq!(own_count(), 0);
    }
}
