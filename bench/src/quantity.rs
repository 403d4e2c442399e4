//! A measured number with its unit.

use std::fmt;

use serde::Serialize;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    BytesPerSecond,
    PerSecond,
    Bytes,
    Count,
}

/// A number with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantity {
    pub value: f64,
    pub unit: Unit,
}

impl Quantity {
    pub fn seconds(value: f64) -> Self {
        Self { value, unit: Unit::Seconds }
    }

    pub fn bytes_per_second(value: f64) -> Self {
        Self { value, unit: Unit::BytesPerSecond }
    }

    pub fn per_second(value: f64) -> Self {
        Self { value, unit: Unit::PerSecond }
    }

    pub fn bytes(value: f64) -> Self {
        Self { value, unit: Unit::Bytes }
    }

    pub fn count(value: f64) -> Self {
        Self { value, unit: Unit::Count }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        let value = self.value;
        let (scaled, unit) = match self.unit {
            Unit::Seconds if value < 1e-6 => (value * 1e9, " ns"),
            Unit::Seconds if value < 1e-3 => (value * 1e6, " us"),
            Unit::Seconds if value < 1.0 => (value * 1e3, " ms"),
            Unit::Seconds => (value, " s"),
            Unit::BytesPerSecond if value < 1e9 => (value / 1e6, " MB/s"),
            Unit::BytesPerSecond => (value / 1e9, " GB/s"),
            Unit::PerSecond if value >= 1e6 => (value / 1e6, " M/s"),
            Unit::PerSecond if value >= 1e3 => (value / 1e3, " k/s"),
            Unit::PerSecond => (value, " /s"),
            Unit::Bytes if value.abs() < KIB * KIB => (value / KIB, " KiB"),
            Unit::Bytes => (value / KIB / KIB, " MiB"),
            Unit::Count => (value, ""),
        };
        write!(formatter, "{}{unit}", three_digits(scaled))
    }
}

/// Three significant digits, without trailing zeros.
pub fn three_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor().clamp(-9.0, 12.0) as i32;
    let behind_the_point = usize::try_from(2 - magnitude).unwrap_or(0).min(6);
    let text = format!("{value:.behind_the_point$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits_and_a_unit_of_their_magnitude() {
        assert_eq!(Quantity::seconds(0.000_001_234).to_string(), "1.23 us");
        assert_eq!(Quantity::bytes_per_second(2.5e9).to_string(), "2.5 GB/s");
        assert_eq!(Quantity::bytes(64.0 * 1024.0 * 1024.0).to_string(), "64 MiB");
        assert_eq!(Quantity::count(0.0).to_string(), "0");
        assert_eq!(Quantity::per_second(1_000_000.0).to_string(), "1 M/s");
    }
}
