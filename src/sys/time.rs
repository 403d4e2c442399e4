//! Points in time: nanoseconds since the Unix epoch, and conversions to the forms of the system and of the index.

use std::time::Duration;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use rustix::time::{ClockId, clock_gettime};

const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

/// The nanoseconds below the microsecond of access times that the cache sets. One kernel time in a thousand has them, too.
const ACCESS_TAG: i64 = 619;

/// A point in time: nanoseconds since the Unix epoch, of the host's real-time clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// The present.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self::from_parts(now.tv_sec, now.tv_nsec)
    }

    /// The present as an access time, exact to 2 microseconds. Its tag distinguishes it from an atime that the kernel set.
    pub fn now_as_access() -> Self {
        let now = Self::now().0;
        Self(now - now.rem_euclid(1000) - 1000 + ACCESS_TAG)
    }

    /// This time as an access time.
    pub fn as_access(self) -> Self {
        self.with_sub_microseconds(ACCESS_TAG)
    }

    /// Whether [`Self::now_as_access`] made it, and the file system stores nanoseconds.
    pub fn is_access(self) -> bool {
        self.0.rem_euclid(1000) == ACCESS_TAG
    }

    /// The nanoseconds below the microsecond.
    pub fn sub_microseconds(self) -> i64 {
        self.0.rem_euclid(1000)
    }

    /// This time with other nanoseconds below the microsecond.
    pub fn with_sub_microseconds(self, nanoseconds: i64) -> Self {
        Self(self.0 - self.sub_microseconds() + nanoseconds)
    }

    /// Converts a time of the system. Times before 1678 and after 2262 are clamped.
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

    /// Converts seconds since the Unix epoch, as Glance's index stores them. NaN becomes the epoch.
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

    /// Exactly one second earlier.
    pub fn one_second_ago(self) -> Self {
        Self(self.0.saturating_sub(NANOSECONDS_PER_SECOND))
    }

    /// That much earlier.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// That much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Whether it is a whole second. Some file systems store no other times.
    pub fn is_whole_second(self) -> bool {
        self.0.rem_euclid(NANOSECONDS_PER_SECOND) == 0
    }

    /// The whole second before or at this time.
    pub fn whole_second(self) -> Self {
        Self(self.0 - self.0.rem_euclid(NANOSECONDS_PER_SECOND))
    }

    /// The absolute difference of two times.
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
        self.as_access_and(self)
    }

    /// For `futimens`: set the access time to this one, and the modification time to the other one.
    pub fn as_access_and(self, modified: Self) -> Timestamps {
        Timestamps { last_access: self.as_timespec(), last_modification: modified.as_timespec() }
    }

    fn as_timespec(self) -> Timespec {
        Timespec {
            tv_sec: self.0.div_euclid(NANOSECONDS_PER_SECOND),
            tv_nsec: self.0.rem_euclid(NANOSECONDS_PER_SECOND),
        }
    }
}

/// The time since some point in the past, which all processes of the host share. No step of the host's clock changes it.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// For how long this thread has had a processor.
pub(crate) fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// The time since the host's boot, suspension included. All processes of the host share it, and no step of the clock changes it.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
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
    fn a_tagged_access_time_differs_from_others() {
        let before = Timestamp::now();
        let accessed = Timestamp::now_as_access();
        assert!(accessed.is_access() && accessed.distance(before) < Duration::from_secs(60));
        assert!(!Timestamp(accessed.0 + 1).is_access() && !accessed.whole_second().is_access());
    }

    #[test]
    fn seconds_out_of_range_are_clamped() {
        assert_eq!(Timestamp::from_seconds(f64::NAN), Timestamp(0));
        assert_eq!(Timestamp::from_seconds(f64::INFINITY), Timestamp(i64::MAX));
        assert!(Timestamp::from_seconds(-1.5) < Timestamp(0));
    }
}
