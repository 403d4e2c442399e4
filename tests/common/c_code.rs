//! C code of the header and of the documents, compiled as strict C99 and C17.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Declarations that the code assumes: an agent's functions.
const BEFORE: &str = r"
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <image_cache.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <unistd.h>
FILE *open_in_store(void *store, const char *image_id);
extern image_cache_fetch_fn agents_fetch;
extern image_cache_source_fn agents_source;
";

/// Handles and variables. Code that declares one of them itself hides it.
const VARIABLES: &str = r"
    image_cache_t *cache = NULL; image_cache_writer_t *writer = NULL; image_cache_reader_t *reader = NULL;
    image_cache_tee_t *tee = NULL; image_cache_stream_t *stream = NULL; image_cache_list_t *list = NULL; image_cache_error_t error; image_cache_status_t status = 0;
    const char *id = NULL, *hex = NULL; FILE *source = NULL, *store = NULL, *guest = NULL;
    char buffer[4096]; size_t length = 0; uint64_t images = 0, bytes = 0, removed = 0; int32_t done = 0; int client = -1;
    (void)cache, (void)writer, (void)reader, (void)stream, (void)tee, (void)list, (void)error, (void)status, (void)id, (void)hex;
    (void)source, (void)store, (void)guest, (void)buffer, (void)length, (void)images, (void)bytes, (void)removed, (void)done, (void)client;
";

/// Functions that statements may call, if the code has no such function.
const FUNCTIONS: [(&str, &str); 2] = [("fetch", "agents_fetch"), ("from_store", "agents_source")];

/// Compiles fragments: functions, which begin with `static`, and statements.
pub fn check(fragments: &[String]) {
    let (functions, statements): (Vec<_>, Vec<_>) = fragments.iter().partition(|code| code.starts_with("static "));
    let mut program = functions.iter().fold(BEFORE.to_owned(), |program, code| program + code);
    // The functions of the fragments have no caller, so `all` refers to them.
    let names: Vec<_> =
        functions.iter().map(|code| code.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap()).collect();
    for (name, function) in FUNCTIONS.iter().filter(|(name, _)| !names.contains(name)) {
        writeln!(program, "#define {name} {function}").unwrap();
    }
    for (number, code) in statements.iter().enumerate() {
        writeln!(program, "void example_{number}(void);\nvoid example_{number}(void)\n{{{VARIABLES}{{{code}}}}}")
            .unwrap();
    }
    let references: Vec<_> = names.iter().map(|name| format!("(void){name};")).collect();
    writeln!(program, "void all(void);\nvoid all(void) {{ {} }}", references.join(" ")).unwrap();

    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("examples.c");
    std::fs::write(&source, &program).unwrap();
    for standard in ["-std=c99", "-std=c17"] {
        let compiled = Command::new("cc")
            .args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I"])
            .args([&Path::new(env!("CARGO_MANIFEST_DIR")).join("include"), &source])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{standard}: {}\n{program}", String::from_utf8_lossy(&compiled.stderr));
    }
}
