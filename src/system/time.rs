//! Points in time, as nanoseconds since the Unix epoch, and their other forms.

use std::time::Duration;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use rustix::time::{ClockId, clock_gettime};

const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

/// What times of use have below the microsecond. One time in a thousand of the kernel's has it as well.
const OURS: i64 = 619;

/// A point in time: nanoseconds since the Unix epoch, of the host's real-time clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// The present.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self::from_parts(now.tv_sec, now.tv_nsec)
    }

    /// The present, to a microsecond, as a time of use: it can be told from what the kernel notes by itself when somebody reads.
    pub fn now_in_use() -> Self {
        let now = Self::now().0;
        Self(now - now.rem_euclid(1000) - 1000 + OURS)
    }

    /// Whether it may have been made by [`Self::now_in_use`]. A file system that stores whole seconds cannot tell.
    pub fn may_be_of_a_use(self) -> bool {
        self.0.rem_euclid(1000) == OURS || self.is_whole_second()
    }

    /// A time as the system gives it; one that does not fit (before 1678, after 2262) is clamped.
    pub fn from_parts(seconds: i64, nanoseconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOSECONDS_PER_SECOND).saturating_add(nanoseconds))
    }

    /// Nanoseconds since the Unix epoch.
    pub fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn as_nanoseconds(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, as Glance's index keeps them; what is no number counts as the epoch.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a float saturates, and NaN becomes 0"
    )]
    pub fn from_seconds(seconds: f64) -> Self {
        let whole = seconds.floor();
        let nanoseconds = ((seconds - whole) * NANOSECONDS_PER_SECOND as f64).round();
        Self::from_parts(whole as i64, nanoseconds as i64)
    }

    /// Seconds since the Unix epoch: exact to about a quarter of a microsecond in this century.
    #[allow(clippy::cast_precision_loss, reason = "the index has no more precision")]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / NANOSECONDS_PER_SECOND as f64
    }

    /// A second earlier, to the nanosecond.
    pub fn one_second_ago(self) -> Self {
        Self(self.0.saturating_sub(NANOSECONDS_PER_SECOND))
    }

    /// Whether it is a whole second, as are all times that some file systems store.
    pub fn is_whole_second(self) -> bool {
        self.0.rem_euclid(NANOSECONDS_PER_SECOND) == 0
    }

    /// The whole second before or at this time.
    pub fn whole_second(self) -> Self {
        Self(self.0 - self.0.rem_euclid(NANOSECONDS_PER_SECOND))
    }

    /// How far apart two times are, whichever is the later one.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// For `futimens`: set the access time, leave the modification time alone.
    pub fn as_access_time(self) -> Timestamps {
        Timestamps { last_access: self.as_timespec(), last_modification: OMIT }
    }

    /// For `futimens`: set the modification time, leave the access time alone.
    pub fn as_modification_time(self) -> Timestamps {
        Timestamps { last_access: OMIT, last_modification: self.as_timespec() }
    }

    /// For `futimens`: set both.
    pub fn as_both_times(self) -> Timestamps {
        Timestamps { last_access: self.as_timespec(), last_modification: self.as_timespec() }
    }

    fn as_timespec(self) -> Timespec {
        Timespec {
            tv_sec: self.0.div_euclid(NANOSECONDS_PER_SECOND),
            tv_nsec: self.0.rem_euclid(NANOSECONDS_PER_SECOND),
        }
    }
}

const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_index_to_a_microsecond() {
        let time = Timestamp(1_800_000_000_123_456_789);
        assert!(Timestamp::from_seconds(time.as_seconds()).distance(time) < Duration::from_micros(1));
    }

    #[test]
    fn a_time_of_use_is_told_from_others() {
        let before = Timestamp::now();
        let used = Timestamp::now_in_use();
        assert!(used.may_be_of_a_use() && used.distance(before) < Duration::from_mins(1));
        assert!(!Timestamp(used.0 + 1).may_be_of_a_use() && used.whole_second().may_be_of_a_use());
    }

    #[test]
    fn seconds_that_are_no_time_become_one() {
        assert_eq!(Timestamp::from_seconds(f64::NAN), Timestamp(0));
        assert_eq!(Timestamp::from_seconds(f64::INFINITY), Timestamp(i64::MAX));
        assert!(Timestamp::from_seconds(-1.5) < Timestamp(0));
    }
}
