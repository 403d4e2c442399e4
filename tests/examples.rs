//! The Rust example prints what examples/README.md says, and the Python program what docs/languages.md says.

use std::path::Path;
use std::process::Command;

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

#[test]
fn the_python_program_of_the_languages_prints_what_the_page_says() {
    let scratch = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/callbacks.py");
    let library = std::env::current_exe().unwrap().with_file_name("libimage_cache.so");
    let ran = Command::new("python3").arg("-B").args([&program, &library, &scratch.path().join("cache")]).output();
    let Ok(ran) = ran else {
        println!("skipped: python3 is not installed");
        return;
    };
    let log = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{log}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), text_below("docs/languages.md", "Python"), "{log}");
    // The callbacks that raised, and the log function.
    assert!(log.contains("AttributeError") && log.contains("KeyError") && log.contains("log: 2 "), "{log}");
}
