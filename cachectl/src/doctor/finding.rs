//! A finding, and the list of them that one examination makes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::kind::{Kind, Severity};

/// So many things a finding names; the others are counted.
const NAMED: usize = 20;

/// One thing that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub number: &'static str,
    pub severity: Severity,
    pub title: &'static str,
    /// One sentence about what was found here.
    pub message: String,
    pub advice: &'static str,
    /// What is concerned: paths, ids or processes, the first few of them.
    pub items: Vec<String>,
    /// How many are concerned.
    pub count: usize,
    /// Whether `--fix` does something about it.
    pub fixable: bool,
    #[serde(skip)]
    pub kind: &'static Kind,
}

/// The findings of an examination.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<&'static str, Finding>);

impl Findings {
    /// Adds a finding without items.
    pub fn add(&mut self, kind: &'static Kind, message: impl Into<String>) {
        self.add_items(kind, message, Vec::new());
    }

    /// Adds a finding about these things; nothing, if `message` needs some and there are none. A second finding of a kind adds its items.
    pub fn add_items(&mut self, kind: &'static Kind, message: impl Into<String>, items: Vec<String>) {
        use super::kind::Remedy;
        let found = self.0.entry(kind.number).or_insert_with(|| Finding {
            number: kind.number,
            severity: kind.severity,
            title: kind.title,
            message: without_number(&message.into()),
            advice: kind.advice,
            items: Vec::new(),
            count: 0,
            fixable: matches!(kind.remedy, Remedy::Open | Remedy::Clean),
            kind,
        });
        found.count += items.len();
        let left = NAMED.saturating_sub(found.items.len());
        found.items.extend(items.into_iter().map(|item| printable(&item)).take(left));
    }

    /// Adds a finding about these things, if there are any. `message` gets how many there are.
    pub fn add_if_any(&mut self, kind: &'static Kind, items: Vec<String>, message: impl FnOnce(usize) -> String) {
        if !items.is_empty() {
            let message = message(items.len());
            self.add_items(kind, message, items);
        }
    }

    pub fn has(&self, kind: &Kind) -> bool {
        self.0.contains_key(kind.number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.values()
    }

    /// The worst first, and by number.
    pub fn sorted(&self) -> Vec<Finding> {
        let mut all: Vec<_> = self.0.values().cloned().collect();
        all.sort_by_key(|finding| (finding.severity, finding.number));
        all
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.0.values().filter(|finding| finding.severity == severity).count()
    }
}

/// The number of a system error says nothing more than its text.
fn without_number(message: &str) -> String {
    message.split_once(" (os error").map_or(message, |(text, _)| text).to_owned()
}

/// File names must not add lines to an output, or control a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

/// A number and its noun.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let mut findings = Findings::default();
        findings.add(&kind::GLANCE, "a");
        findings.add(&kind::FUTURE, "b");
        findings.add(&kind::NO_LOCKS, "c");
        let order: Vec<_> = findings.sorted().iter().map(|finding| finding.number).collect();
        assert_eq!(order, ["IC070", "IC060", "IC080"]);
    }

    #[test]
    fn a_finding_names_the_first_things_and_counts_all() {
        let mut findings = Findings::default();
        findings.add_items(&kind::ORPHANS, "x", (0..15).map(|number| number.to_string()).collect());
        findings.add_items(&kind::ORPHANS, "x", (15..30).map(|number| format!("{number}\n")).collect());
        let found = &findings.sorted()[0];
        assert_eq!((found.items.len(), found.count, found.items[19].as_str()), (20, 30, "19\\n"));
    }
}
