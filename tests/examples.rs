//! The Rust example prints what examples/README.md says. `tests/python` tests the Python examples, and `tests/consumers` the others.

use std::path::Path;

#[path = "../examples/rust/agent.rs"]
mod agent;

/// The first block of text below a heading of a document.
fn text_below(document: &str, heading: &str) -> String {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let section = document.split_once(&format!("\n## {heading}\n")).unwrap().1;
    section.split_once("```text\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_rust_example_prints_what_its_index_says() {
    let scratch = tempfile::tempdir().unwrap();
    let mut printed = Vec::new();
    agent::run(&scratch.path().join("cache"), &mut printed).unwrap();
    assert_eq!(String::from_utf8(printed).unwrap(), text_below("examples/README.md", "C++, Rust, Python, Node"));
}
