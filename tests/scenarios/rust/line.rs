//! Runs one line of a scenario: splits it into words, calls the operation, compares the result.

use std::fmt::Write as _;
use std::path::Path;

use super::{
    OperationResult, Outcome, Output, Report, Scenario, Stop, cache, disk, files, read_write, stream, tee, words,
};

pub fn run(scenario: &mut Scenario, report: &mut Report, path: &Path, number: usize, line: &str) {
    let (call, expected) = match line.split_once(" => ") {
        Some((call, expected)) => (call, Some(expected)),
        None => (line, None),
    };
    let outcome = split(call).and_then(|words| operate(scenario, &words));
    let (output, is_bad) = match outcome {
        Ok(output) => (output, false),
        Err(Stop::BadLine(why)) => (Output { result: "BAD_LINE".to_owned(), detail: why.to_owned() }, true),
        Err(Stop::Skipped(reason)) => {
            if report.outcome == Outcome::Passed {
                report.outcome = Outcome::Skipped(reason);
            }
            let _ = writeln!(report.transcript, "{number} {call} => SKIPPED"); // writing to a String cannot fail
            return;
        }
    };
    let Output { result, detail } = output;
    let _ = writeln!(report.transcript, "{number} {call} => {result}");

    let expected_result = normalise(expected.unwrap_or("OK"));
    let matches = match expected {
        // A line without an expectation accepts any result whose first word is OK.
        None => result.split(' ').next() == Some("OK"),
        Some(_) => result == expected_result,
    };
    if is_bad || !matches {
        report.outcome = Outcome::Failed;
        let _ = writeln!(report.transcript, "MISMATCH in line {number}: expected {expected_result}");
        let path = path.display();
        let _ = writeln!(report.failures, "{path}:{number}: expected {expected_result}, got {result}: {detail}");
    }
}

fn split(line: &str) -> Result<Vec<Vec<u8>>, Stop> {
    line.split(' ')
        .map(|word| {
            if word.is_empty() {
                return Err(Stop::BadLine("words are separated by one space"));
            }
            words::unescape(word).ok_or(Stop::BadLine("a malformed escape"))
        })
        .collect()
}

/// Replaces data words by their fingerprints, as operations print them.
fn normalise(expected: &str) -> String {
    let words = expected.split(' ').map(|word| {
        let data = words::unescape(word).filter(|word| words::is_data(word)).and_then(|word| words::data(&word).ok());
        data.map_or_else(|| word.to_owned(), |data| words::fingerprint(&data))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn operate(scenario: &mut Scenario, words: &[Vec<u8>]) -> OperationResult {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let (name, arguments) = words.split_first().ok_or(Stop::BadLine("no operation"))?;
    let name = words::text(name)?;
    // Operations on a cache come last. Without a selected cache they report every name as a bad line.
    [read_write::operate, tee::operate, stream::operate, files::operate, disk::operate, cache::operate]
        .into_iter()
        .find_map(|operate| operate(scenario, name, arguments))
        .unwrap_or(Err(Stop::BadLine("no such operation, or a wrong number of words")))
}
