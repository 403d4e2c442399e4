//! Plain words: no document, comment, log message or error message has a phrase that a reader must read twice.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases to avoid, and what to write instead. They are compared without case, as whole words.
const PHRASES: [(&str, &str); 44] = [
    ("anew", "again"),
    ("announce", "lock, or log"),
    ("as it likes", "a number"),
    ("but for", "except"),
    ("find out", "read, compute, or check"),
    ("finds out", "reads, computes, or checks"),
    ("folder", "directory"),
    ("folders", "directories"),
    ("for a look", "for diagnosis"),
    ("for a while", "a number with its unit"),
    ("for good", "finally, or durably"),
    ("found out", "read, computed, or checked"),
    ("go by", "use, or evict by"),
    ("goes by", "uses, or evicts by"),
    ("gives caching up", "gives up caching"),
    ("hand on", "deliver"),
    ("handed on", "delivered"),
    ("hands on", "delivers"),
    ("in the midst of", "during"),
    ("is asked", "is called, or is queried"),
    ("is believed", "is accepted, or is used"),
    ("is told", "is logged, or is passed"),
    ("keeps watch", "checks"),
    ("let go", "flushed, or released"),
    ("lets go", "flushes, or releases"),
    ("mend", "fix, or repair"),
    ("mended", "fixed, or repaired"),
    ("mending", "fixing"),
    ("nobody can tell", "it is unknown"),
    ("passed over", "skipped"),
    ("puppet", "child process"),
    ("put right", "repaired, or corrected"),
    ("puts right", "repairs, or corrects"),
    ("rotten", "corrupt"),
    ("sealed", "stamped"),
    ("tally", "counters"),
    ("thick and fast", "in bursts"),
    ("told apart", "distinguished"),
    ("told to the log", "logged"),
    ("was asked", "was called, or was requested"),
    ("was told", "was logged, or was passed"),
    ("what is no", "something that is not"),
    ("whatever it was asked", "the query"),
    ("whoever", "a process that, or a user who"),
];

/// The prose of a line: all of a document's, and the comments and texts of a source file. What is between backticks is code.
fn prose(line: &str, is_source: bool) -> String {
    let text = match line.split_once("//") {
        _ if !is_source => line.to_owned(),
        Some((code, comment)) => format!("{} {comment}", texts(code)),
        None => texts(line),
    };
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// The texts between double quotes.
fn texts(code: &str) -> String {
    code.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ")
}

/// The words, in lower case, each between two spaces.
fn words(prose: &str) -> String {
    let words = prose.split(|letter: char| !letter.is_alphanumeric() && letter != '\'').filter(|word| !word.is_empty());
    words.fold(String::from(" "), |text, word| text + &word.to_lowercase() + " ")
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|present| present == extension) {
            found.push(path);
        }
    }
}

#[test]
fn documents_comments_and_messages_have_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("include/image_cache.h")];
    files(&root.join("docs"), "md", &mut paths);
    files(&root.join("examples"), "md", &mut paths);
    files(&root.join("go"), "md", &mut paths);
    files(&root.join("src"), "rs", &mut paths);
    files(&root.join("cachectl"), "rs", &mut paths);
    let top = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.extension().is_some_and(|extension| extension == "md")));

    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let words = words(&prose(line, is_source));
            for (phrase, instead) in PHRASES {
                if words.contains(&format!(" {phrase} ")) {
                    wrong.push(format!("{name}:{}: \"{phrase}\": write: {instead}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_phrase_is_found_in_prose_and_not_in_code() {
    let found = |line, is_source| words(&prose(line, is_source)).contains(" anew ");
    assert!(found("It is made anew.", false) && found("let x = 1; // Made anew", true));
    assert!(found("log(\"it is made Anew: {x}\")", true));
    assert!(!found("It calls `anew` and renews it.", false) && !found("let anew = renew();", true));
}
