//! Sizes, durations and times, as people and programs read and write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The units of sizes: their letters, from 1024 bytes on.
const LETTERS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// Parses a size: `10G`, `1.5TiB`, `500 MB`, `4096`. As for qemu-img and dd, `G` and `GiB` are 1024^3 bytes, and `GB` is 1000^3.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || format!("{text:?} is no size: write 4096, 10G, 1.5TiB or 500MB");
    let trimmed = text.trim();
    let end = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return Err(invalid());
    }
    let factor = factor(unit.trim()).ok_or_else(invalid)?;
    if factor == 1 && !fraction.is_empty() {
        return Err(format!("{text:?} has no unit: write {trimmed}G, or whole bytes"));
    }
    let whole: u128 = whole.parse().map_err(|_| invalid())?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let bytes = whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part * factor / scale));
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| format!("{text:?} is more than 16 EiB"))
}

fn factor(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_uppercase();
    if unit.is_empty() || unit == "B" {
        return Some(1);
    }
    let mut letters = unit.chars();
    let first = letters.next()?;
    let power = u32::try_from(LETTERS.iter().position(|letter| *letter == first)?).ok()? + 1;
    match letters.as_str() {
        "" | "IB" => Some(1024_u128.pow(power)),
        "B" => Some(1000_u128.pow(power)),
        _ => None,
    }
}

/// A size for people: three digits and a unit, such as `1.50 GiB`, `20.0 GiB`, `512 B`.
pub fn size(bytes: u64) -> String {
    let mut unit = 0;
    while unit < LETTERS.len() && u128::from(bytes) * 2 >= 2047 * 1024_u128.pow(unit_power(unit)) {
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64 / 1024_f64.powi(i32::try_from(unit).unwrap_or(0));
    let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.digits$} {}iB", LETTERS[unit - 1])
}

fn unit_power(unit: usize) -> u32 {
    u32::try_from(unit).unwrap_or(0)
}

/// Parses a duration: `2h`, `7d`, `1h 30m`, `90s`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if let Ok(seconds) = trimmed.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(trimmed).map_err(|_| format!("{text:?} is no duration: write 90s, 30m, 2h, 7d or 1h 30m"))
}

/// A duration for people: its two largest units, such as `3d 4h`, `12m 5s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let largest = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(units.len() - 1);
    let (length, letter) = units[largest];
    let rest = units.get(largest + 1).map(|(length_of_next, letter)| (seconds % length / length_of_next, letter));
    match rest {
        Some((rest, next)) if rest > 0 && seconds / length < 100 => {
            format!("{}{letter} {rest}{next}", seconds / length)
        }
        _ => format!("{}{letter}", seconds / length),
    }
}

/// A number for people, with groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 image`, `2 images`.
pub fn images(number: u64) -> String {
    let noun = if number == 1 { "image" } else { "images" };
    format!("{} {noun}", count(number))
}

/// The time of so many nanoseconds since the Unix epoch.
pub fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time = if nanoseconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A time for programs, of RFC 3339 in UTC, with whole seconds: `2026-11-29T20:50:05Z`.
pub fn rfc3339(nanoseconds: i64) -> String {
    let time = time(nanoseconds);
    // A time before 1970 has no such form.
    humantime::format_rfc3339_seconds(time.max(UNIX_EPOCH)).to_string()
}

/// A time for people: `2026-11-29 20:50:05 UTC, 3h 5m ago`.
pub fn date(nanoseconds: i64) -> String {
    let text = rfc3339(nanoseconds).replace('T', " ").replace('Z', " UTC");
    format!("{text}, {}", ago(nanoseconds))
}

/// How long ago a time was: `3h 5m ago`, or `in 3h 5m`.
pub fn ago(nanoseconds: i64) -> String {
    let (time, now) = (time(nanoseconds), SystemTime::now());
    match now.duration_since(time) {
        Ok(age) if age < Duration::from_secs(1) => "now".to_owned(),
        Ok(age) => format!("{} ago", duration(age)),
        // Of a pin of 7 days, a millisecond has passed already.
        Err(error) => format!("in {}", duration(error.duration() + Duration::from_millis(999))),
    }
}

/// A part of a whole for people: `42 %`.
pub fn percent(part: u64, whole: u64) -> Option<String> {
    let percent = u128::from(part).saturating_mul(100).checked_div(u128::from(whole))?;
    Some(format!("{percent} %"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("10G", 10 << 30),
            ("10g", 10 << 30),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("10GB", 10_000_000_000),
            ("1.5TiB", 3 << 39),
            ("0.5k", 512),
            ("15.999999999E", 18_446_744_072_556_630_111),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "G",
            "-1",
            "1.",
            "1.5",
            "1.5B",
            ".5G",
            "10X",
            "10GiBs",
            "1e3",
            "16E",
            "99999999999999999999999999999999999999999",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_with_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 << 30, "10.0 GiB"),
            (100 << 30, "100 GiB"),
            (1023 << 20, "1023 MiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, written) in [
            ("90", 90, "1m 30s"),
            ("2h", 7200, "2h"),
            ("7d", 604_800, "7d"),
            ("1h 30m", 5400, "1h 30m"),
            ("0s", 0, "0s"),
            ("400days 5h", 34_578_000, "400d"),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!((read.as_secs(), duration(read).as_str()), (seconds, written), "{text}");
        }
        assert!(parse_duration("soon").is_err() && parse_duration("-1h").is_err() && parse_duration("").is_err());
    }

    #[test]
    fn numbers_have_groups_of_three_digits() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(count), ["0", "12", "123", "1,234", "1,234,567"]);
        assert_eq!([images(1), images(2)], ["1 image", "2 images"]);
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(1_000_000_000_999_999_999), "2001-09-09T01:46:40Z");
        assert_eq!(rfc3339(-5), "1970-01-01T00:00:00Z");
        assert!(date(1_000_000_000_000_000_000).starts_with("2001-09-09 01:46:40 UTC, "));
    }
}
