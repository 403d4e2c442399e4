//! Plays one line of a scenario: cuts it into words, has the operation done, compares the result.

use std::fmt::Write as _;
use std::path::Path;

use super::{Found, Operated, Outcome, Played, Scenario, Stop, cache, disk, files, read_write, tee, words};

pub fn play(scenario: &mut Scenario, played: &mut Played, path: &Path, number: usize, line: &str) {
    let (shown, expected) = match line.split_once(" => ") {
        Some((shown, expected)) => (shown, Some(expected)),
        None => (line, None),
    };
    let operated = split(shown).and_then(|words| operate(scenario, &words));
    let (found, is_bad) = match operated {
        Ok(found) => (found, false),
        Err(Stop::BadLine(why)) => (Found { result: "BAD_LINE".to_owned(), detail: why.to_owned() }, true),
        Err(Stop::Skipped(reason)) => {
            if played.outcome == Outcome::Passed {
                played.outcome = Outcome::Skipped(reason);
            }
            let _ = writeln!(played.transcript, "{number} {shown} => SKIPPED"); // writing to a String cannot fail
            return;
        }
    };
    let Found { result, detail } = found;
    let _ = writeln!(played.transcript, "{number} {shown} => {result}");

    let expected_result = normalise(expected.unwrap_or("OK"));
    let matches = match expected {
        // Nothing is said: any result whose first word is OK.
        None => result.split(' ').next() == Some("OK"),
        Some(_) => result == expected_result,
    };
    if is_bad || !matches {
        played.outcome = Outcome::Failed;
        let _ = writeln!(played.transcript, "MISMATCH in line {number}: expected {expected_result}");
        let path = path.display();
        let _ = writeln!(played.complaints, "{path}:{number}: expected {expected_result}, got {result}: {detail}");
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

/// The expected result as operations print it: data words replaced by their fingerprints.
fn normalise(expected: &str) -> String {
    let words = expected.split(' ').map(|word| {
        let data = words::unescape(word).filter(|word| words::is_data(word)).and_then(|word| words::data(&word).ok());
        data.map_or_else(|| word.to_owned(), |data| words::fingerprint(&data))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn operate(scenario: &mut Scenario, words: &[Vec<u8>]) -> Operated {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let (name, arguments) = words.split_first().ok_or(Stop::BadLine("no operation"))?;
    let name = words::text(name)?;
    // Those of a cache come last: without a selected one, they take every other name for a bad line.
    [read_write::operate, tee::operate, files::operate, disk::operate, cache::operate]
        .into_iter()
        .find_map(|operate| operate(scenario, name, arguments))
        .unwrap_or(Err(Stop::BadLine("no such operation, or not with so many words")))
}
