//! Opening a file on which somebody may have a lease (see `sys::lease`).

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long an open tries again when a lease is in its way. Who checks a file, and leaves it, has the lease for a few microseconds.
const CHECK: Duration = Duration::from_millis(2);

/// Opens a file that somebody may have leased, to check whether it is in use, or to remove it. `open` must use `O_NONBLOCK`.
///
/// After 2 ms, a lease fails the open with `EAGAIN`: its holder is stopped, or it is another program's.
pub(crate) fn open_beside_leases(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open() {
        Err(Errno::AGAIN) => {}
        opened => return opened,
    }
    // It does not sleep: the holder, if it runs at all, needs the processor for a few microseconds only.
    let deadline = Instant::now() + CHECK;
    while Instant::now() < deadline {
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

    #[test]
    fn an_open_waits_for_a_short_lease_and_finds_what_follows() {
        let mut leases = 3;
        let opened = open_beside_leases(|| {
            leases -= 1;
            if leases > 0 { Err(Errno::AGAIN) } else { Err(Errno::NOENT) }
        });
        assert_eq!(opened.unwrap_err(), Errno::NOENT);
    }
}
