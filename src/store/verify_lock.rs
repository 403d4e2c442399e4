//! The locks with which processes share one verification of all images: bytes of `.image_cache/lock` (see `lock`).
//!
//! | lock | byte | held |
//! |---|---|---|
//! | pass lock | 8, shared | while a call verifies all images |
//! | an image's | 2^61 + the inode of its file | while a call verifies it |
//!
//! Each call has an open file description of its own, so that two threads of one handle share the images, too. The kernel drops the locks
//! with their process. Without the permission to lock, a call verifies all images by itself.
//!
//! A call that finds no other one begins a pass, and notes its time beside the locks. The others take part in it: what was verified since
//! that time is done. After a lock file was removed, two calls may verify the same image, which harms nothing.

use std::fs::File;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::store::layout::Layout;
use crate::store::lock::CacheLockGuard;
use crate::sys::file;
use crate::sys::lock::{LockKind, try_lock, unlock};
use crate::sys::signals::without_size_signal;
use crate::sys::time::Timestamp;

const PASS: u64 = 8;

/// Where the lock file has the begin of the pass: nanoseconds since the Unix epoch, 64 bits, little-endian. In bytes.
const BEGIN: u64 = 24;

fn byte_of(inode: u64) -> u64 {
    const FIRST: u64 = 1 << 61;
    FIRST | (inode & (FIRST - 1))
}

/// The locks of one call.
#[derive(Debug)]
pub(crate) struct VerifyLocks {
    file: File,
    path: PathBuf,
}

impl VerifyLocks {
    /// `None` when there is no lock file. Fails when this process may not lock.
    pub fn open(layout: &Layout) -> Result<Option<Self>> {
        Ok(layout.open_lock_file()?.map(|(file, path)| Self { file, path }))
    }

    /// Takes part in the present pass, or begins one. Returns its begin. The cache lock keeps two calls from beginning at once.
    pub fn join(&self, _lock: &CacheLockGuard<'_>) -> Result<Timestamp> {
        let now = Timestamp::now();
        if self.try_lock(PASS, LockKind::Exclusive)? {
            let noted = without_size_signal(|| {
                file::write_at(&self.file, || self.path.clone(), BEGIN, &now.as_nanoseconds().to_le_bytes())
            });
            // Without it, others would take part in a former pass, and leave out what was verified since.
            noted.inspect_err(|_| unlock(&self.file, PASS))?;
            self.try_lock(PASS, LockKind::Shared)?;
            return Ok(now);
        }
        self.try_lock(PASS, LockKind::Shared)?;
        let mut begin = [0; 8];
        file::read_at(&self.file, || self.path.clone(), BEGIN, &mut begin)?;
        Ok(Timestamp::from_nanoseconds(i64::from_le_bytes(begin)).min(now))
    }

    /// False while another call verifies the image.
    pub fn try_lock_image(&self, inode: u64) -> Result<bool> {
        self.try_lock(byte_of(inode), LockKind::Exclusive)
    }

    pub fn unlock_image(&self, inode: u64) {
        unlock(&self.file, byte_of(inode));
    }

    fn try_lock(&self, byte: u64, kind: LockKind) -> Result<bool> {
        try_lock(&self.file, byte, kind).map_err(|errno| Error::system("lock", &self.path, errno))
    }
}

impl Drop for VerifyLocks {
    /// A forked child may have the descriptor.
    fn drop(&mut self) {
        unlock(&self.file, PASS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lock::Locks;

    #[test]
    fn calls_at_the_same_time_share_a_pass_and_each_image_is_one_calls() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::open(&scratch.path().join("cache"), []).unwrap();
        let locks = Locks::new(layout.shared_directory());
        let lock = locks.acquire().unwrap();
        let call = || VerifyLocks::open(&layout).unwrap().unwrap();
        let (first, second) = (call(), call());
        let begin = first.join(&lock).unwrap();
        assert_eq!(second.join(&lock).unwrap(), begin);
        assert!(first.try_lock_image(7).unwrap() && !second.try_lock_image(7).unwrap());
        assert!(second.try_lock_image(8).unwrap());
        first.unlock_image(7);
        assert!(second.try_lock_image(7).unwrap());
        drop(first);
        assert_eq!(call().join(&lock).unwrap(), begin);
        drop(second);
        assert!(call().join(&lock).unwrap() > begin);
    }
}
