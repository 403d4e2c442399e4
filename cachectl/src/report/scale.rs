//! Marks of axes: round numbers of bytes, and full hours and days.

use crate::units::rfc3339;

/// A mark: where it is, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub value: u64,
    pub text: String,
}

/// What an axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Percent,
}

const LETTERS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The marks from 0 to at least `most`: five or fewer.
pub fn marks(most: u64, unit: Unit) -> Vec<Mark> {
    if unit == Unit::Percent {
        return [0, 25, 50, 75, 100].map(|value| Mark { value, text: format!("{value} %") }).to_vec();
    }
    let steps = [1_u64, 2, 4, 8, 16, 32, 64, 128, 256, 512];
    let mut factor = 1_u64;
    let mut power = 0;
    loop {
        let step = steps.iter().map(|step| step.saturating_mul(factor)).find(|step| step.saturating_mul(4) >= most);
        if let Some(step) = step {
            let count = most.div_ceil(step).max(1);
            let letters = LETTERS.get(power).copied().unwrap_or_default();
            let text = |value: u64| if value == 0 { "0".to_owned() } else { format!("{} {letters}", value / factor) };
            return (0..=count)
                .map(|number| number.saturating_mul(step))
                .map(|value| Mark { value, text: text(value) })
                .collect();
        }
        factor = factor.saturating_mul(1024);
        power += 1;
    }
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Marks of times between two, in UTC: eight or fewer.
pub fn times(from: u64, to: u64) -> Vec<Mark> {
    let steps = [
        60,
        300,
        900,
        HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        7 * DAY,
        14 * DAY,
        30 * DAY,
        91 * DAY,
        365 * DAY,
    ];
    let step = steps.into_iter().find(|step| (to - from) / step <= 6).unwrap_or_else(|| {
        let years = (to - from).div_ceil(6 * 365 * DAY);
        years * 365 * DAY
    });
    let first = from.div_ceil(step).saturating_mul(step);
    let text = |time: u64| {
        let text = rfc3339(i64::try_from(time).unwrap_or(0).saturating_mul(1_000_000_000));
        let range = if step < DAY && !time.is_multiple_of(DAY) { 11..16 } else { 5..10 };
        text.get(range).unwrap_or_default().to_owned()
    };
    (first..=to)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(|value| Mark { value, text: text(value) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(marks: &[Mark]) -> Vec<&str> {
        marks.iter().map(|mark| mark.text.as_str()).collect()
    }

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(texts(&marks(50 << 30, Unit::Bytes)), ["0", "16 GiB", "32 GiB", "48 GiB", "64 GiB"]);
        assert_eq!(texts(&marks(1023, Unit::Bytes)), ["0", "256 B", "512 B", "768 B", "1024 B"]);
        assert_eq!(texts(&marks(0, Unit::Bytes)), ["0", "1 B"]);
        for most in [1, 5, 999, 1 << 40, u64::MAX / 8] {
            let marks = marks(most, Unit::Bytes);
            assert!(marks.len() <= 5 && marks.last().unwrap().value >= most, "{most}: {marks:?}");
        }
    }

    #[test]
    fn times_are_marked_at_full_hours_or_days() {
        let day = 1_790_000_000 / DAY * DAY;
        assert_eq!(texts(&times(day, day + DAY)), ["09-21", "06:00", "12:00", "18:00", "09-22"]);
        assert_eq!(texts(&times(day, day + 28 * DAY)).len(), 4);
        assert!(times(day, day + 400 * DAY).len() <= 7);
        assert!(times(day + 1, day + 1).is_empty());
        for (from, to) in [(0, u64::MAX), (day, u64::MAX), (u64::MAX - 1, u64::MAX), (0, 100 * 365 * DAY)] {
            assert!(times(from, to).len() <= 8, "{from} {to}");
        }
    }
}
