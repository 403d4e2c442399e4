//! A lock that this process holds until it ends, on one file or another. The kernel drops it with the process, also after a SIGKILL.
//!
//! The byte is a random number, so it names the process: another one with the same id, in another namespace or later, has another
//! byte. All files that the process locks get the same byte. A forked child locks its own, and closes what it inherited; until it has
//! done so, ends or calls exec, its parent's locks outlive the parent.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstat;
use rustix::io::Errno;

use crate::sys::at_fork::{enter, generation};
use crate::sys::lock::{LockKind, try_lock};
use crate::sys::stat::{FileId, FileStat};
use crate::sys::time::Timestamp;

/// Locked only by threads that are [inside](enter), so that no child inherits a locked one.
static LIFE: Mutex<Life> = Mutex::new(Life { owner: 0, byte: 0, held: Vec::new() });

/// Bytes before this one have other uses.
const FIRST_BYTE: u64 = 1 << 32;

struct Life {
    /// The generation of the process that locked them.
    owner: u64,
    byte: u64,
    held: Vec<(FileId, File)>,
}

/// Locks this process's byte of a file until the process ends, unless it has that lock. Returns the byte.
pub(crate) fn lock_for_life(file: File) -> Result<u64, Errno> {
    // A child whose parent had another thread inside at the fork. It cannot use SQLite either.
    let _inside = enter().ok_or(Errno::DEADLK)?;
    let id = FileStat::from(fstat(&file)?).id;
    let mut life = LIFE.lock().unwrap_or_else(PoisonError::into_inner);
    if life.byte == 0 || life.owner != generation() {
        *life = Life { owner: generation(), byte: random_byte(), held: Vec::new() };
    }
    // Files that were removed have no use any more.
    life.held.retain(|(_, file)| fstat(file).is_ok_and(|stat| stat.st_nlink > 0));
    if life.held.iter().all(|(held, _)| *held != id) {
        // Shared: it is in nobody's way. A file that is open for writing here cannot be locked by those who may only read it.
        if !try_lock(&file, life.byte, LockKind::Shared)? {
            return Err(Errno::AGAIN);
        }
        life.held.push((id, file));
    }
    Ok(life.byte)
}

fn random_byte() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(generation());
    hasher.write_i64(Timestamp::now().as_nanoseconds());
    FIRST_BYTE + (hasher.finish() >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::lock::is_locked_at_all;

    #[test]
    fn one_byte_of_each_file_stays_locked_and_a_removed_file_is_closed() {
        let scratch = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            File::options().create(true).truncate(false).read(true).write(true).open(scratch.path().join(name)).unwrap()
        };
        let byte = lock_for_life(open("one")).unwrap();
        assert_eq!((lock_for_life(open("other")), lock_for_life(open("one"))), (Ok(byte), Ok(byte)));
        for name in ["one", "other"] {
            assert!(is_locked_at_all(open(name), byte).unwrap() && !is_locked_at_all(open(name), byte + 1).unwrap());
        }
        let count = || LIFE.lock().unwrap().held.len();
        let before = count();
        std::fs::remove_file(scratch.path().join("one")).unwrap();
        assert_eq!((lock_for_life(open("other")), count()), (Ok(byte), before - 1));
        assert_eq!(lock_for_life(open("one")), Ok(byte), "the new file of that name");
    }
}
