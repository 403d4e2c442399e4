//! Opening a file on which somebody may have a lease (see `sys::lease`).

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::sys::time::processor_time;

/// How long an open tries again when a lease is in its way. Who checks a file, and leaves it, has the lease for a few microseconds, but
/// may have to wait for a processor. So it is this thread's processor time: where threads wait for processors, it lasts longer.
const CHECK: Duration = Duration::from_millis(2);

/// Opens a file that somebody may have leased, to check whether it is in use, or to remove it. `open` must use `O_NONBLOCK`.
///
/// After 2 ms of processor time, a lease fails the open with `EAGAIN`: its holder is stopped, or it is another program's.
pub(crate) fn open_beside_leases(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open() {
        Err(Errno::AGAIN) => {}
        opened => return opened,
    }
    // It does not sleep: the holder, if it runs at all, needs the processor for a few microseconds only.
    let deadline = processor_time() + CHECK;
    while processor_time() < deadline {
        thread::yield_now();
        match open() {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The third attempt finds no file. The thread has no processor for that long before each.
    fn third_attempt(waits: Duration) -> Errno {
        let mut leases = 3;
        let opened = open_beside_leases(|| {
            thread::sleep(waits);
            leases -= 1;
            if leases > 0 { Err(Errno::AGAIN) } else { Err(Errno::NOENT) }
        });
        opened.unwrap_err()
    }

    #[test]
    fn an_open_waits_for_a_short_lease_and_finds_what_follows() {
        assert_eq!(third_attempt(Duration::ZERO), Errno::NOENT);
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_goes_on_trying() {
        assert_eq!(third_attempt(2 * CHECK), Errno::NOENT);
    }

    #[test]
    fn a_lease_that_stays_fails_the_open() {
        assert_eq!(open_beside_leases(|| Err(Errno::AGAIN)).unwrap_err(), Errno::AGAIN);
    }
}
