//! The Rust example prints what examples/README.md says.

use std::path::Path;

#[path = "../examples/rust/agent.rs"]
mod agent;

#[test]
fn the_rust_example_prints_what_its_index_says() {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/README.md");
    let index = std::fs::read_to_string(index).unwrap();
    let section = index.split_once("\n## C++, Rust, Python, Node\n").unwrap().1;
    let documented = section.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;

    let scratch = tempfile::tempdir().unwrap();
    let mut printed = Vec::new();
    agent::run(&scratch.path().join("cache"), &mut printed).unwrap();
    assert_eq!(String::from_utf8(printed).unwrap(), documented);
}
