//! The results: figures with their targets, rows that were not measured, and the points of the growth curves.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::quantity::Quantity;

/// The target of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most so many times the floor: for a time.
    AtMostTimes(f64),
    /// At least so many times the floor: for a speed.
    AtLeastTimes(f64),
    /// Between so many and so many times the floor: for a value that must not change.
    Within(f64, f64),
    AtMost(Quantity),
    AtLeast(Quantity),
    /// No target.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub row: String,
    pub ours: Quantity,
    pub floor: Option<Quantity>,
    pub target: Target,
    pub note: String,
}

impl Finding {
    pub fn new(row: impl Into<String>, ours: Quantity, target: Target) -> Self {
        Self { row: row.into(), ours, floor: None, target, note: String::new() }
    }

    /// A time beside the floor's.
    pub fn times(row: impl Into<String>, ours: f64, floor: f64, target: Target) -> Self {
        Self::new(row, Quantity::seconds(ours), target).floor(Quantity::seconds(floor))
    }

    /// The speeds of two times for so many bytes.
    pub fn speeds(row: impl Into<String>, length: usize, ours: f64, floor: f64, target: f64) -> Self {
        let speed = |seconds: f64| Quantity::bytes_per_second(length as f64 / seconds);
        Self::new(row, speed(ours), Target::AtLeastTimes(target)).floor(speed(floor))
    }

    pub fn floor(mut self, floor: Quantity) -> Self {
        self.floor = Some(floor);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Ours divided by the floor.
    pub fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.ours.value / floor.value)
    }

    /// Whether the target is met; `None` where there is none.
    pub fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::AtMostTimes(times) => self.ratio().map(|ratio| ratio <= times),
            Target::AtLeastTimes(times) => self.ratio().map(|ratio| ratio >= times),
            Target::Within(low, high) => self.ratio().map(|ratio| (low..=high).contains(&ratio)),
            Target::AtMost(limit) => Some(self.ours.value <= limit.value),
            Target::AtLeast(limit) => Some(self.ours.value >= limit.value),
            Target::None => None,
        }
    }
}

/// A row that was not measured.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    pub row: String,
    pub why: String,
}

/// A curve's name: the operation, and the cache that performs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Curve {
    pub operation: String,
    pub who: String,
}

/// All results.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub skipped: Vec<Skipped>,
    /// Seconds per operation, by the number of images.
    pub curves: BTreeMap<Curve, BTreeMap<usize, f64>>,
}

impl Report {
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn skip(&mut self, row: impl Into<String>, why: impl Into<String>) {
        self.skipped.push(Skipped { row: row.into(), why: why.into() });
    }

    pub fn point(&mut self, operation: &str, who: &str, images: usize, seconds: f64) {
        let curve = Curve { operation: operation.to_owned(), who: who.to_owned() };
        self.curves.entry(curve).or_default().insert(images, seconds);
    }

    pub fn curve(&self, operation: &str, who: &str) -> Option<&BTreeMap<usize, f64>> {
        self.curves.get(&Curve { operation: operation.to_owned(), who: who.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_side() {
        let finding = |target| Finding::times("row", 3.0, 2.0, target);
        assert_eq!(finding(Target::AtMostTimes(1.5)).is_met(), Some(true));
        assert_eq!(finding(Target::AtMostTimes(1.4)).is_met(), Some(false));
        assert_eq!(finding(Target::AtLeastTimes(1.6)).is_met(), Some(false));
        assert_eq!(finding(Target::Within(0.8, 1.2)).is_met(), Some(false));
        assert_eq!(finding(Target::AtMost(Quantity::seconds(3.0))).is_met(), Some(true));
        assert_eq!(finding(Target::AtLeast(Quantity::seconds(4.0))).is_met(), Some(false));
        assert_eq!(finding(Target::None).is_met(), None);
    }
}
