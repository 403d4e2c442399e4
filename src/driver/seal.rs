//! A change of final names, as the directory's modification time shows it (see the module above).

use std::time::Duration;

use crate::error::Result;
use crate::system::directory::Directory;
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// The directory's time before a change, while it goes on, and the one that the directory is given after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    pub before: Timestamp,
    pub after: Timestamp,
    /// What the directory's time is as long as nobody but us changes names.
    expected: Timestamp,
    /// Somebody did.
    disturbed: bool,
}

impl Seal {
    /// Before the names are changed, and for as long as the gate is held.
    ///
    /// The time that the directory gets is in the past, so that the kernel never gives it to a later change, and no other seal
    /// has it: it is exact to the nanosecond, or, on file systems that store whole seconds, earlier than all before it.
    pub fn begin(_gate: &HostLockGuard<'_>, directory: &Directory) -> Result<Self> {
        let before = directory.modified()?;
        let past = Timestamp::now().one_second_ago();
        let after = below(before).map_or(past, |bound| past.min(bound).whole_second());
        Ok(Self { before, after, expected: before, disturbed: false })
    }

    /// The same, of a directory whose time was `before` until files of our own were made in it.
    pub fn since(self, before: Timestamp) -> Self {
        Self { before, ..self.earlier_than(before) }
    }

    /// The same, for an index that has the time `known`. After a power cut the directory or the index may be what it was
    /// some changes ago: had one of those the time of a later one, the index would be taken for right. So whole seconds go
    /// down only, whatever the clock and the directory say.
    pub fn earlier_than(self, known: Timestamp) -> Self {
        Self { after: below(known).map_or(self.after, |bound| self.after.min(bound)), ..self }
    }

    /// Takes one step of the change. Its outcome is what became of the names: a directory whose time cannot be read counts as
    /// disturbed, so that the index is put right later.
    pub fn step<T>(&mut self, directory: &Directory, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.disturbed |= !self.is_undisturbed(directory).unwrap_or(false);
        let outcome = step();
        match directory.modified() {
            Ok(modified) => self.expected = modified,
            Err(_) => self.disturbed = true,
        }
        outcome
    }

    /// Whether nobody but us changed names since the change began.
    pub fn is_undisturbed(&self, directory: &Directory) -> Result<bool> {
        Ok(!self.disturbed && directory.modified()? == self.expected)
    }

    /// For an index that has this seal, and a directory that cannot be given it: the directory's time instead. `None` as long as the
    /// kernel may give the same time to another change: its clock for files goes in steps.
    pub fn as_it_is(self) -> Option<Self> {
        const STEP: Duration = Duration::from_millis(20);
        let step = if self.expected.is_whole_second() { Duration::from_secs(2) } else { STEP };
        let is_past = self.expected.distance(Timestamp::now()) > step;
        is_past.then_some(Self { before: self.after, after: self.expected, ..self })
    }
}

/// What a seal after `time` must not be later than, if `time` may be a seal of a file system that stores whole seconds. One of
/// before 1970 is none: somebody else set it, and there may be none that is earlier.
fn below(time: Timestamp) -> Option<Timestamp> {
    (time.is_whole_second() && time > Timestamp::from_nanoseconds(0)).then(|| time.one_second_ago())
}
