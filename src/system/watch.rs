//! Names that come and go in a directory while it is watched, told by the kernel (inotify).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

/// The kernel queues what happens to names under the lock that changes them: when a call has returned, all that was before it
/// can be read.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch; `None` where the kernel gives no watch (there are so many for a user, and it takes `/proc`).
    pub fn new(directory: BorrowedFd<'_>) -> Option<Self> {
        let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        add_watch(&watch, path, names | WatchFlags::ONLYDIR).ok()?;
        Some(Self(watch))
    }

    /// Whether a name came or went since that is none of `ours`; true also when that cannot be told.
    pub fn has_seen_others(&self, ours: impl Fn(&OsStr) -> bool) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.0, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let is_ours = |name: &std::ffi::CStr| ours(OsStr::from_bytes(name.to_bytes()));
                    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) || !event.file_name().is_some_and(is_ours) {
                        return true;
                    }
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }
}
