//! The stamp: a number that shows whether the names in the cache's directory changed. The index stores the stamp of the
//! directory with which it agrees.
//!
//! The directory is the truth, and an index beside it can be wrong. Its writer was killed between the file and the row, a power
//! cut took its last transactions, the disk was full, or another program changed files. Each of these leaves another stamp.
//!
//! A stamp is computed from what no tool can copy or restore: the directory's device, inode, time of birth and ctime. The mtime,
//! which tools do restore, is part of it for file systems whose clock advances in steps (tmpfs, whole seconds, kernels before
//! 6.13): there, two changes can have the same ctime. So the directory gets a chosen mtime after each change, one that the
//! kernel gives to no other change. Only the directory's owner may set it. For others, a change by another program within the
//! same step of the clock is not noticed.
//!
//! A change by another program within the microseconds of one step of ours is part of our stamp. The index then is wrong
//! until a call meets the contradiction, or until the next clean (see `cache::catalog`).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::error::Result;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::dir_state::DirectoryState;
use crate::sys::time::Timestamp;

/// A stamp, of 48 bits. A collision, one in 2^48, would hide a change until it is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The bits of a stamp.
    pub(crate) const BITS: u32 = 48;

    /// The stamp of the cache's directory.
    pub fn of(layout: &Layout) -> Result<Self> {
        layout.directory(Area::Cached).state().map(|state| Self::from_state(&state))
    }

    /// A stamp that each later change of names changes, as that of [`StampedChange::finish`].
    pub fn settle(lock: &CacheLockGuard<'_>, layout: &Layout) -> Result<Self> {
        let state = StampedChange::begin(lock, layout)?.before;
        Self::settled(layout, state, state.modified)
    }

    /// The stamp of a directory in this state, after its mtime was set so that each later change of names changes the stamp.
    /// `former`: the mtime before the change.
    fn settled(layout: &Layout, state: DirectoryState, former: Timestamp) -> Result<Self> {
        if Self::is_settled(layout, &state) {
            return Ok(Self::from_state(&state));
        }
        match layout.directory(Area::Cached).set_both_times(chosen_after(former)) {
            Err(error) if !error.is_not_permitted() => return Err(error),
            _ => {}
        }
        // Some file systems store a time less exactly than it was set.
        Self::of(layout)
    }

    /// Whether the kernel gives each later change another ctime.
    fn is_settled(layout: &Layout, state: &DirectoryState) -> bool {
        layout.has_exact_times() && !state.changed.is_whole_second()
    }

    /// Another version of the standard library may compute other numbers. Then the index is compared once.
    fn from_state(state: &DirectoryState) -> Self {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        Self::from_number(hasher.finish())
    }

    /// The stamp with this number's lowest bits.
    pub fn from_number(number: u64) -> Self {
        Self(number & ((1 << Self::BITS) - 1))
    }

    pub fn as_number(self) -> u64 {
        self.0
    }
}

/// The stamps before and after a change of names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StampChange {
    pub before: Stamp,
    /// `None` when it could not be read: the index does not agree with the directory then.
    pub after: Option<Stamp>,
}

/// A change of names that has begun, under the cache lock.
#[derive(Debug)]
pub(crate) struct StampedChange {
    before: DirectoryState,
    /// The directory's state after the last step; `None` once another program changed names between two steps.
    expected: Option<DirectoryState>,
    /// The next step is the first one, which follows [`Self::begin`] at once.
    is_first: bool,
}

impl StampedChange {
    pub fn begin(_lock: &CacheLockGuard<'_>, layout: &Layout) -> Result<Self> {
        let before = layout.directory(Area::Cached).state()?;
        Ok(Self { before, expected: Some(before), is_first: true })
    }

    /// Makes one step of the change. What other programs change between two steps is noticed.
    pub fn step<T>(&mut self, layout: &Layout, step: impl FnOnce() -> T) -> T {
        let directory = layout.directory(Area::Cached);
        let is_undisturbed =
            std::mem::take(&mut self.is_first) || self.expected.is_some() && directory.state().ok() == self.expected;
        let result = step();
        self.expected = if is_undisturbed { directory.state().ok() } else { None };
        result
    }

    /// Ends it, after all names were changed. What other programs changed since the last step is noticed, too: as soon as the stamp is
    /// compared, or here, before the stamp is set. A lock that was lost meanwhile counts as another program.
    pub fn finish(&self, lock: &CacheLockGuard<'_>, layout: &Layout) -> StampChange {
        let is_as_expected = |expected: &DirectoryState| {
            Stamp::is_settled(layout, expected)
                || layout.directory(Area::Cached).state().is_ok_and(|state| state == *expected)
        };
        let undisturbed = self.expected.filter(is_as_expected);
        let undisturbed = undisturbed.filter(|_| lock.is_on_present_file().unwrap_or(false));
        let after = undisturbed.and_then(|state| Stamp::settled(layout, state, self.before.modified).ok());
        StampChange { before: Stamp::from_state(&self.before), after }
    }
}

/// An mtime that the kernel gives to no later change, since it lies in the past. It is exact to the nanosecond; on file systems
/// that store whole seconds it is earlier than the one before.
fn chosen_after(before: Timestamp) -> Timestamp {
    let past = Timestamp::now().one_second_ago();
    // A time before 1970 is none of ours, and an earlier one may not exist.
    if before.is_whole_second() && before > Timestamp::from_nanoseconds(0) {
        past.min(before.one_second_ago()).whole_second()
    } else {
        past
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::lock::Locks;

    #[test]
    fn a_stamp_changes_with_the_names_and_is_not_restored_with_the_mtime() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("cache");
        let layout = Layout::open(&path, []).unwrap();
        let locks = Locks::new(layout.shared_directory());
        let lock = locks.acquire().unwrap();
        let stamp = Stamp::of(&layout).unwrap();
        assert_eq!(Stamp::of(&layout).unwrap(), stamp);
        let mut change = StampedChange::begin(&lock, &layout).unwrap();
        change.step(&layout, || fs::write(path.join("1"), b"x")).unwrap();
        let change = change.finish(&lock, &layout);
        assert!(change.before == stamp && change.after.unwrap() != stamp);

        // A change in another step of the clock, where the clock has steps.
        let change_by_others = || {
            let state = || layout.directory(Area::Cached).state().unwrap();
            let before = state();
            while state().changed == before.changed {
                fs::write(path.join("foreign"), b"x").unwrap();
                fs::remove_file(path.join("foreign")).unwrap();
            }
        };
        let modified = layout.directory(Area::Cached).state().unwrap().modified;
        change_by_others();
        layout.directory(Area::Cached).set_both_times(modified).unwrap();
        assert_ne!(Stamp::of(&layout).unwrap(), change.after.unwrap());

        let mut change = StampedChange::begin(&lock, &layout).unwrap();
        change.step(&layout, || fs::write(path.join("2"), b"x")).unwrap();
        change_by_others();
        change.step(&layout, || fs::remove_file(path.join("2"))).unwrap();
        assert!(change.finish(&lock, &layout).after.is_none());

        let mut change = StampedChange::begin(&lock, &layout).unwrap();
        change.step(&layout, || fs::write(path.join("3"), b"x")).unwrap();
        change_by_others();
        let after = change.finish(&lock, &layout).after;
        assert!(after != Some(Stamp::of(&layout).unwrap()), "the change of another program is not ours");
    }
}
