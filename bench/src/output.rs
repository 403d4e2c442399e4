//! The printed tables, and the file of --json.

use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::machine::Machine;
use crate::peers::Figures;
use crate::quantity::three_digits;
use crate::report::{Finding, Report, Skipped, Target};
use crate::storm::Storm;

/// A table in Markdown.
fn new_table(header: &[String], first_numeric: usize, numeric: usize) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in first_numeric..first_numeric + numeric {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn target(finding: &Finding) -> String {
    match finding.target {
        Target::AtMostTimes(times) => format!("<= {times} x"),
        Target::AtLeastTimes(times) => format!(">= {times:.2} x"),
        Target::Within(low, high) => format!("{low} to {high} x"),
        Target::AtMost(limit) => format!("<= {limit}"),
        Target::AtLeast(limit) => format!(">= {limit}"),
        Target::None => String::new(),
    }
}

fn met(finding: &Finding) -> &'static str {
    match finding.is_met() {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    }
}

/// Prints the table, its notes, and the rows that were not measured.
pub fn print(report: &Report) {
    let header = ["work", "ours", "floor", "ratio", "target", "", "note"].map(ToOwned::to_owned);
    let mut table = new_table(&header, 1, 4);
    let mut notes: Vec<&str> = Vec::new();
    for finding in &report.findings {
        let note = if finding.note.is_empty() {
            String::new()
        } else {
            notes.push(&finding.note);
            notes.len().to_string()
        };
        table.add_row([
            finding.row.clone(),
            finding.ours.to_string(),
            finding.floor.map(|floor| floor.to_string()).unwrap_or_default(),
            finding.ratio().map(three_digits).unwrap_or_default(),
            target(finding),
            met(finding).to_owned(),
            note,
        ]);
    }
    println!("\n{table}\n");
    for (index, note) in notes.iter().enumerate() {
        println!("  {}: {note}", index + 1);
    }
    for skipped in &report.skipped {
        println!("  not measured: {}: {}", skipped.row, skipped.why);
    }
    let count = |wanted| report.findings.iter().filter(|finding| finding.is_met() == Some(wanted)).count();
    println!("\n{} met, {} not met, {} not measured", count(true), count(false), report.skipped.len());
}

/// Prints all peers side by side.
pub fn print_peers(what: &str, peers: &[Figures]) {
    let mut works: Vec<&String> = Vec::new();
    for (work, _) in peers.iter().flat_map(|peer| &peer.figures) {
        if !works.contains(&work) {
            works.push(work);
        }
    }
    let header: Vec<_> = std::iter::once(what.to_owned()).chain(peers.iter().map(|peer| peer.who.clone())).collect();
    let mut table = new_table(&header, 1, peers.len());
    for work in works {
        let figure = |peer: &Figures| {
            let found = peer.figures.iter().find(|(one, _)| one == work);
            found.map_or_else(|| "-".to_owned(), |(_, quantity)| quantity.to_string())
        };
        table.add_row(std::iter::once(work.clone()).chain(peers.iter().map(figure)));
    }
    println!("\n{table}");
}

/// Prints the storm of all peers, and what it was.
pub fn print_storm(storm: &Storm) {
    print_peers("a storm", &storm.peers);
    println!("\n  {}", storm.scene.replace(". ", ".\n  "));
    println!("  The load of the machine was {:.2} before, and {:.2} at the end.", storm.load[0], storm.load[1]);
}

#[derive(Serialize)]
struct Output<'a> {
    machine: &'a Machine,
    quick: bool,
    findings: Vec<Checked<'a>>,
    skipped: &'a [Skipped],
    curves: Vec<Line<'a>>,
    peers: &'a [Figures],
    storm: Option<&'a Storm>,
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    ratio: Option<f64>,
    met: Option<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    operation: &'a str,
    who: &'a str,
    /// Numbers of images, and seconds.
    points: Vec<(usize, f64)>,
}

pub fn write_json(
    file: &Path,
    quick: bool,
    machine: &Machine,
    report: &Report,
    peers: &[Figures],
    storm: Option<&Storm>,
) -> Result<()> {
    let checked = |finding| Checked { finding, ratio: finding.ratio(), met: finding.is_met() };
    let curves = report.curves.iter().map(|(curve, points)| Line {
        operation: &curve.operation,
        who: &curve.who,
        points: points.iter().map(|(images, seconds)| (*images, *seconds)).collect(),
    });
    let output = Output {
        machine,
        quick,
        findings: report.findings.iter().map(checked).collect(),
        skipped: &report.skipped,
        curves: curves.collect(),
        peers,
        storm,
    };
    let text = serde_json::to_string_pretty(&output)?;
    std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))
}
