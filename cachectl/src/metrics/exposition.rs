//! The text formats of metrics: Prometheus 0.0.4, and OpenMetrics 1.0.
#![allow(clippy::doc_markdown, reason = "the names of the formats; help texts have no backticks")]

use std::fmt::Write as _;

use clap::ValueEnum;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Prometheus 0.0.4: what node_exporter reads
    #[default]
    Prometheus,
    /// OpenMetrics 1.0
    Openmetrics,
}

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// It only grows.
    Counter,
    /// Always 1: its labels are what it says.
    Info,
}

/// One number, with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: u64,
}

/// The numbers of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Without the suffix of counters.
    pub name: &'static str,
    pub kind: Kind,
    /// The end of the name, if it is a unit.
    pub unit: &'static str,
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

impl Family {
    /// The name of its samples.
    pub fn sample_name(&self) -> String {
        match self.kind {
            Kind::Gauge => self.name.to_owned(),
            Kind::Counter => format!("{}_total", self.name),
            Kind::Info => format!("{}_info", self.name),
        }
    }
}

/// The text of families.
pub fn text(families: &[Family], format: Format) -> String {
    let mut text = String::new();
    for family in families {
        let sample_name = family.sample_name();
        // The old format has no kind for information, and its header has the name of the samples.
        let (name, kind) = match (format, family.kind) {
            (Format::Prometheus, Kind::Counter) => (sample_name.as_str(), "counter"),
            (Format::Prometheus, _) => (sample_name.as_str(), "gauge"),
            (Format::Openmetrics, Kind::Counter) => (family.name, "counter"),
            (Format::Openmetrics, Kind::Gauge) => (family.name, "gauge"),
            (Format::Openmetrics, Kind::Info) => (family.name, "info"),
        };
        let _ = writeln!(text, "# HELP {name} {}", escaped(family.help, format == Format::Openmetrics));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if !family.unit.is_empty() {
            // In the old format it is a comment.
            let _ = writeln!(text, "# UNIT {name} {}", family.unit);
        }
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true)));
            let labels = labels.collect::<Vec<_>>().join(",");
            let _ = writeln!(text, "{sample_name}{{{labels}}} {}", sample.value);
        }
    }
    if format == Format::Openmetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Quotes are escaped in labels, and in OpenMetrics everywhere.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: Kind) -> Family {
        let labels = vec![("directory", "/a \"b\"\\\n".to_owned())];
        Family { name: "x_bytes", kind, unit: "bytes", help: "Of \"it\"", samples: vec![Sample { labels, value: 7 }] }
    }

    #[test]
    fn the_old_format_names_counters_with_their_suffix() {
        let expected = "# HELP x_bytes_total Of \"it\"\n# TYPE x_bytes_total counter\n# UNIT x_bytes_total bytes\n\
            x_bytes_total{directory=\"/a \\\"b\\\"\\\\\\n\"} 7\n";
        assert_eq!(text(&[family(Kind::Counter)], Format::Prometheus), expected);
    }

    #[test]
    fn openmetrics_names_the_family_and_ends() {
        let expected = "# HELP x_bytes Of \\\"it\\\"\n# TYPE x_bytes counter\n# UNIT x_bytes bytes\n\
            x_bytes_total{directory=\"/a \\\"b\\\"\\\\\\n\"} 7\n# EOF\n";
        assert_eq!(text(&[family(Kind::Counter)], Format::Openmetrics), expected);
        assert!(text(&[family(Kind::Info)], Format::Openmetrics).contains("# TYPE x_bytes info\n"));
    }
}
