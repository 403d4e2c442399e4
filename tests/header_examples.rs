//! Each example in the header compiles as strict C99 and C17 without a warning.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Declarations that the examples assume: handles, variables and an agent's function.
const BEFORE: &str = r"
#include <image_cache.h>
#include <stdio.h>
FILE *open_in_store(void *store, const char *image_id);
";
const VARIABLES: &str = r"
    image_cache_t *cache = NULL; image_cache_writer_t *writer = NULL; image_cache_reader_t *reader = NULL;
    image_cache_tee_t *tee = NULL; image_cache_list_t *list = NULL; image_cache_error_t error; image_cache_status_t status = 0;
    const char *id = NULL, *hex = NULL; FILE *source = NULL, *guest = NULL;
    char buffer[4096]; size_t length = 0; uint64_t images = 0, bytes = 0, removed = 0;
    (void)cache, (void)writer, (void)reader, (void)tee, (void)list, (void)error, (void)status, (void)id, (void)hex;
    (void)source, (void)guest, (void)buffer, (void)length, (void)images, (void)bytes, (void)removed;
";

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
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let examples = examples(&std::fs::read_to_string(include.join("image_cache.h")).unwrap());
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());

    let (functions, statements): (Vec<_>, Vec<_>) = examples.iter().partition(|code| code.starts_with("static "));
    let mut program = functions.iter().fold(BEFORE.to_owned(), |program, code| program + code);
    for (number, code) in statements.iter().enumerate() {
        writeln!(program, "void example_{number}(void);\nvoid example_{number}(void)\n{{{VARIABLES}{code}}}").unwrap();
    }
    // The examples' functions have no caller, so this one refers to them.
    let names = functions.iter().map(|code| code.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap());
    writeln!(
        program,
        "void all(void);\nvoid all(void) {{ {}; }}",
        names.map(|name| format!("(void){name}")).collect::<Vec<_>>().join(", ")
    )
    .unwrap();

    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("examples.c");
    std::fs::write(&source, &program).unwrap();
    for standard in ["-std=c99", "-std=c17"] {
        let compiled = Command::new("cc")
            .args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I"])
            .args([&include, &source])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{standard}: {}\n{program}", String::from_utf8_lossy(&compiled.stderr));
    }
}
