//! The stamp: the directory's mtime, set to a chosen time after each change of names, and stored in the index as well.
//!
//! The directory is the truth, and an index beside it can be wrong. Its writer was killed between the file and the row, a power
//! cut took its last transactions, the disk was full, or another program changed files. Each of these leaves another mtime than
//! the one that the index has: the kernel sets it to the present whenever a name is added, removed or renamed. So an index
//! that has the directory's mtime agrees with the directory.
//!
//! A stamp lies in the past, so the kernel never gives it to a later change. No two changes have the same stamp: after a power
//! cut, the directory or the index may be some changes old, and neither may then equal the other. Only the directory's owner may
//! set its mtime; for others, and for an index in memory, the index takes the directory's mtime instead.

use std::time::Duration;

use crate::error::Result;
use crate::store::lock::CacheLockGuard;
use crate::sys::dir::Directory;
use crate::sys::time::Timestamp;

/// The directory's mtime before a change of names, during it, and the stamp that it gets afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DirectoryStamp {
    pub before: Timestamp,
    pub after: Timestamp,
    /// The directory's mtime, as long as only this change touches names.
    expected: Timestamp,
    /// Another program changed names meanwhile.
    disturbed: bool,
}

impl DirectoryStamp {
    /// Chooses a stamp, before names change. It is valid as long as the cache lock is held.
    ///
    /// It is exact to the nanosecond. On file systems that store whole seconds it is earlier than all before it.
    pub fn begin(_lock: &CacheLockGuard<'_>, directory: &Directory) -> Result<Self> {
        let before = directory.modified()?;
        let past = Timestamp::now().one_second_ago();
        let after = upper_bound(before).map_or(past, |bound| past.min(bound).whole_second());
        Ok(Self { before, after, expected: before, disturbed: false })
    }

    /// The stamp of a directory whose mtime was `before` until the driver created files of its own in it.
    pub fn since(self, before: Timestamp) -> Self {
        Self { before, ..self.earlier_than(before) }
    }

    /// A stamp that is also earlier than the index's stamp `known`, if that is a whole second. Such stamps only decrease,
    /// whatever the clock and the directory say, so an index from before a power cut never has a later one's.
    pub fn earlier_than(self, known: Timestamp) -> Self {
        Self { after: upper_bound(known).map_or(self.after, |bound| self.after.min(bound)), ..self }
    }

    /// Makes one step of the change, and returns its result. If the mtime cannot be read, the change counts as disturbed, and
    /// the index is reconciled later.
    pub fn step<T>(&mut self, directory: &Directory, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.disturbed |= !self.is_undisturbed(directory).unwrap_or(false);
        let result = step();
        match directory.modified() {
            Ok(modified) => self.expected = modified,
            Err(_) => self.disturbed = true,
        }
        result
    }

    /// Whether no other program changed names since the change began.
    pub fn is_undisturbed(&self, directory: &Directory) -> Result<bool> {
        Ok(!self.disturbed && directory.modified()? == self.expected)
    }

    /// The stamp where the directory's mtime cannot be set: its present mtime, for an index that has `self.after`. `None` while
    /// the kernel may still give the same mtime to another change, since its clock for files advances in steps.
    pub fn as_is(self) -> Option<Self> {
        const STEP: Duration = Duration::from_millis(20);
        let step = if self.expected.is_whole_second() { Duration::from_secs(2) } else { STEP };
        let is_past = self.expected.distance(Timestamp::now()) > step;
        is_past.then_some(Self { before: self.after, after: self.expected, ..self })
    }
}

/// The latest stamp that may follow `time`, if `time` may be a stamp of a file system that stores whole seconds. A time before
/// 1970 is none of ours, and an earlier one may not exist.
fn upper_bound(time: Timestamp) -> Option<Timestamp> {
    (time.is_whole_second() && time > Timestamp::from_nanoseconds(0)).then(|| time.one_second_ago())
}
