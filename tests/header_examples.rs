//! Each example in the header compiles as strict C99 and C17 without a warning.

use std::fmt::Write as _;
use std::path::Path;

#[path = "common/c_code.rs"]
mod c_code;

/// The code between the fences of the header's comments.
fn examples(header: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut open = None;
    for line in header.lines() {
        match (line.trim_start().trim_start_matches("* ").trim_end(), &mut open) {
            ("```c", None) => open = Some(String::new()),
            ("```", Some(_)) => examples.extend(open.take()),
            (_, Some(code)) => writeln!(code, "{}", line.strip_prefix(" * ").unwrap_or_default()).unwrap(),
            _ => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    examples
}

#[test]
fn the_examples_of_the_header_compile() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/image_cache.h");
    let examples = examples(&std::fs::read_to_string(header).unwrap());
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());
    c_code::check(&examples);
}
