//! One pin as it is stored: 512 bytes in the file of an image's pins (see `pins`), and when it ends.
//!
//! # Clocks
//!
//! A pin for some time has the time of its making on two clocks: the host's clock, and the time since boot. Until the host restarts,
//! only the second one counts, so a step of the clock has no effect. After a restart, the pin ends at its end on the host's clock.
//! If the clock was stepped meanwhile, it ends earlier or later by that step; but it never lasts longer, from the restart on, than it
//! was made for. So a pin that was made while the clock was years ahead is not eternal. Without a boot id, the host's clock counts.

use std::time::Duration;

use crate::store::checksum::checksum;
use crate::sys::boot::boot_id;
use crate::sys::time::{Timestamp, since_boot};

/// A record's length, in bytes. A disk writes so many as a whole.
pub(super) const LENGTH: usize = 512;

/// The longest holder, in bytes.
pub(crate) const MAX_HOLDER: usize = 255;

const MAGIC: &[u8; 8] = b"ic pin 1";
const SEQUENCE_AT: usize = 8;
const SECONDS_AT: usize = 16;
const CLOCK_AT: usize = 24;
const SINCE_BOOT_AT: usize = 32;
const BYTE_AT: usize = 40;
const PROCESS_AT: usize = 48;
const BOOT_AT: usize = 56;
const BOOT_LENGTH: usize = 36;
const HOLDER_LENGTH_AT: usize = 95;
const HOLDER_AT: usize = 96;
/// At the end a checksum of what is before it.
const CHECKSUM_AT: usize = LENGTH - 8;
const _: () = assert!(HOLDER_AT + MAX_HOLDER <= CHECKSUM_AT && BOOT_AT + BOOT_LENGTH <= HOLDER_LENGTH_AT);

/// A smaller step of the clock is not shown.
const SLIP: Duration = Duration::from_secs(1);

const NANOSECONDS: i128 = 1_000_000_000;

/// How long a pin lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PinTime {
    /// So many seconds.
    Seconds(u64),
    /// As long as a process has that byte of the file of processes locked.
    Process { process: u32, byte: u64 },
}

/// A moment on both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    clock: Timestamp,
    /// Nanoseconds.
    since_boot: u64,
    /// The boot id; zeros where it is unknown.
    boot: [u8; BOOT_LENGTH],
}

impl Moment {
    pub fn now() -> Self {
        let mut boot = [0; BOOT_LENGTH];
        if let Some(id) = boot_id().filter(|id| id.len() == BOOT_LENGTH) {
            boot.copy_from_slice(id.as_bytes());
        }
        let since_boot = u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX);
        Self { clock: Timestamp::now(), since_boot, boot }
    }

    fn has_boot(&self) -> bool {
        self.boot != [0; BOOT_LENGTH]
    }
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinRecord {
    /// Of two pins of one holder, the one with the greater number counts.
    pub sequence: u64,
    /// 1 to 255 bytes without NUL.
    pub holder: Vec<u8>,
    pub time: PinTime,
    pub made: Moment,
}

/// What 512 bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Free,
    Pin(PinRecord),
    /// A pin that its holder has replaced.
    Replaced,
    /// Damaged, or of a newer version.
    Unreadable,
}

impl PinRecord {
    /// How long the pin still lasts; `None` when it has ended. Of a process's pin: whether the process lives is known elsewhere.
    pub fn left(&self, now: &Moment) -> Option<Duration> {
        let PinTime::Seconds(seconds) = self.time else { return Some(Duration::MAX) };
        let duration = i128::from(seconds) * NANOSECONDS;
        let [made_at, present] = [&self.made, now].map(|moment| i128::from(moment.clock.as_nanoseconds()));
        let [made_since_boot, since_boot] = [&self.made, now].map(|moment| i128::from(moment.since_boot));
        let nanoseconds = if !self.made.has_boot() || !now.has_boot() {
            (made_at + duration - present).min(duration)
        } else if self.made.boot == now.boot {
            duration - (since_boot - made_since_boot)
        } else {
            let booted = present - since_boot;
            (made_at + duration - booted).min(duration) - since_boot
        };
        let left = u64::try_from(nanoseconds / NANOSECONDS).unwrap_or(0);
        let rest = u32::try_from(nanoseconds % NANOSECONDS).unwrap_or(0);
        (nanoseconds > 0).then(|| Duration::new(left, rest))
    }

    /// When it ends: nanoseconds since the Unix epoch, by the present clock; [`i64::MAX`] with its process, or after 2262.
    pub fn until(&self, now: &Moment, left: Duration) -> i64 {
        match self.time {
            PinTime::Process { .. } => i64::MAX,
            PinTime::Seconds(seconds) => {
                // The two clocks are not read at once, so the sum of both is never the same twice.
                let planned = self.made.clock.after(Duration::from_secs(seconds));
                let actual = now.clock.after(left);
                if planned.distance(actual) < SLIP { planned.as_nanoseconds() } else { actual.as_nanoseconds() }
            }
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; LENGTH] {
        let (seconds, process, byte) = match self.time {
            PinTime::Seconds(seconds) => (seconds, 0, 0),
            PinTime::Process { process, byte } => (0, process, byte),
        };
        let mut bytes = [0; LENGTH];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(SECONDS_AT, &seconds.to_le_bytes());
        put(CLOCK_AT, &self.made.clock.as_nanoseconds().to_le_bytes());
        put(SINCE_BOOT_AT, &self.made.since_boot.to_le_bytes());
        put(BYTE_AT, &byte.to_le_bytes());
        put(PROCESS_AT, &process.to_le_bytes());
        put(BOOT_AT, &self.made.boot);
        let length = self.holder.len().min(MAX_HOLDER);
        put(HOLDER_LENGTH_AT, &[u8::try_from(length).unwrap_or(u8::MAX)]);
        put(HOLDER_AT, &self.holder[..length]);
        let checksum = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

impl Slot {
    /// Fewer than 512 bytes are the end of a file.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Free;
        }
        match bytes.try_into().ok().and_then(record) {
            Some(record) => Self::Pin(record),
            None => Self::Unreadable,
        }
    }
}

fn record(bytes: &[u8; LENGTH]) -> Option<PinRecord> {
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if !bytes.starts_with(MAGIC) || checksum(&bytes[..CHECKSUM_AT]) != number(CHECKSUM_AT) {
        return None;
    }
    let time = match (number(BYTE_AT), number(SECONDS_AT)) {
        (0, seconds) => PinTime::Seconds(seconds),
        (byte, _) => PinTime::Process { process: u32::try_from(number(PROCESS_AT) & u64::from(u32::MAX)).ok()?, byte },
    };
    let mut boot = [0; BOOT_LENGTH];
    boot.copy_from_slice(&bytes[BOOT_AT..BOOT_AT + BOOT_LENGTH]);
    let clock = Timestamp::from_nanoseconds(number(CLOCK_AT).cast_signed());
    let made = Moment { clock, since_boot: number(SINCE_BOOT_AT), boot };
    let holder = bytes[HOLDER_AT..][..usize::from(bytes[HOLDER_LENGTH_AT])].to_vec();
    Some(PinRecord { sequence: number(SEQUENCE_AT), holder, time, made })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn moment(boot: u8, clock: i64, since_boot: u64) -> Moment {
        let clock = Timestamp::from_nanoseconds(clock * SECOND.cast_signed());
        Moment { clock, since_boot: since_boot * SECOND, boot: [boot; BOOT_LENGTH] }
    }

    fn pin(seconds: u64, made: Moment) -> PinRecord {
        PinRecord { sequence: 1, holder: b"h".to_vec(), time: PinTime::Seconds(seconds), made }
    }

    fn left(pin: &PinRecord, now: &Moment) -> Option<u64> {
        pin.left(now).map(|left| left.as_secs())
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_damage_is_noticed() {
        for (holder, time) in [
            (vec![1], PinTime::Seconds(u64::MAX)),
            ((0..255).map(|byte: u8| byte.wrapping_add(1)).collect(), PinTime::Process { process: 7, byte: 1 << 61 }),
        ] {
            let record = PinRecord { sequence: 3, holder, time, made: Moment::now() };
            let bytes = record.to_bytes();
            assert_eq!(Slot::from_bytes(&bytes), Slot::Pin(record));
            for at in [0, 7, SEQUENCE_AT, BOOT_AT, HOLDER_LENGTH_AT, HOLDER_AT, CHECKSUM_AT - 1, LENGTH - 1] {
                let mut damaged = bytes;
                damaged[at] ^= 1;
                assert_eq!(Slot::from_bytes(&damaged), Slot::Unreadable, "{at}");
            }
            assert_eq!(Slot::from_bytes(&bytes[..511]), Slot::Unreadable);
        }
        assert_eq!((Slot::from_bytes(&[0; LENGTH]), Slot::from_bytes(&[0; 3])), (Slot::Free, Slot::Free));
    }

    #[test]
    fn until_a_restart_no_step_of_the_clock_matters() {
        let pin = pin(100, moment(1, 5000, 50));
        for clock in [0, 5000, 5030, i64::from(i32::MAX)] {
            assert_eq!(left(&pin, &moment(1, clock, 80)), Some(70));
            assert_eq!(left(&pin, &moment(1, clock, 150)), None);
        }
    }

    #[test]
    fn after_a_restart_the_hosts_clock_counts_and_a_step_shifts_the_end_by_itself() {
        let pin = pin(100, moment(1, 5000, 50));
        assert_eq!(left(&pin, &moment(2, 5030, 10)), Some(70));
        assert_eq!(left(&pin, &moment(2, 5045, 10)), Some(55), "the clock was set forward by 15 s");
        assert_eq!(left(&pin, &moment(2, 5020, 10)), Some(80), "and back by 10 s");
        assert_eq!(left(&pin, &moment(2, 5100, 10)), None);
    }

    #[test]
    fn a_clock_that_was_years_ahead_makes_no_pin_eternal() {
        let pin = pin(100, moment(1, 900_000_000, 50));
        assert_eq!(left(&pin, &moment(2, 5000, 10)), Some(90));
        assert_eq!(left(&pin, &moment(2, 5000, 101)), None);
    }

    #[test]
    fn without_a_boot_id_the_hosts_clock_counts() {
        let pin = pin(100, moment(0, 5000, 50));
        assert_eq!(left(&pin, &moment(0, 5030, 80)), Some(70));
    }

    #[test]
    fn the_end_is_shown_by_the_present_clock_and_is_the_same_each_time() {
        let pin = pin(100, moment(1, 5000, 50));
        let until = |now: Moment| pin.until(&now, pin.left(&now).unwrap()) / SECOND.cast_signed();
        let mut late = moment(1, 5030, 80);
        late.since_boot += 999;
        assert_eq!((until(moment(1, 5030, 80)), until(late)), (5100, 5100));
        assert_eq!(until(moment(1, 9030, 80)), 9100, "the clock was set forward");
    }

    #[test]
    fn the_longest_times_end_with_the_clock() {
        let now = moment(1, 5000, 50);
        let pin = pin(u64::MAX >> 1, now.clone());
        assert_eq!(pin.until(&now, pin.left(&now).unwrap()), i64::MAX);
    }
}
