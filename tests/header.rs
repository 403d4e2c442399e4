//! The header in the repository is the one that cbindgen generates from the sources.

use std::path::Path;

/// The header's headings, each before a function's documentation. The functions have the order of `src/ffi/mod.rs`.
const HEADINGS: [(&str, &str); 15] = [
    ("image_cache_open", "Cache: open, close"),
    ("image_cache_open_for_read", "Reading an image"),
    ("image_cache_begin_write", "Writing an image"),
    ("image_cache_export", "In and out: images are copied to and from files"),
    ("image_cache_tee_open", "Tee: a stream is delivered, and cached on the way"),
    ("image_cache_stream_open", "Stream: one fetch for all readers"),
    ("image_cache_is_cached", "Queries"),
    ("image_cache_list_next", "Lists"),
    ("image_cache_queue_image", "Queue and prefetching"),
    ("image_cache_delete_cached_image", "Deleting, pruning, cleaning"),
    ("image_cache_pin", "Pins"),
    ("image_cache_get_statistics", "Statistics"),
    ("image_cache_options_new", "Options"),
    ("image_cache_status_name", "Statuses"),
    ("image_cache_version", "Version"),
];

/// If this variable is set, the test writes the header instead of comparing it.
const UPDATE: &str = "IMAGE_CACHE_UPDATE_HEADER";

#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/image_cache.h");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml can be read");
    let bindings =
        cbindgen::Builder::new().with_crate(root).with_config(config).generate().expect("the sources can be parsed");
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = with_headings(&parenthesise(&String::from_utf8(generated).expect("the header is UTF-8")));

    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, generated).expect("the header can be written");
        return;
    }
    let checked_in = std::fs::read_to_string(&path).expect("the header can be read");
    let differs = generated.lines().zip(checked_in.lines()).enumerate().find(|(_, (new, old))| new != old);
    if let Some((number, (new, old))) = differs {
        panic!("line {} of the header is\n  {old}\nbut the sources give\n  {new}\nRun `make header`.", number + 1);
    }
    assert_eq!(generated.len(), checked_in.len(), "the header ends differently. Run `make header`.");
}

/// A program that includes the header has other names of its own.
#[test]
fn each_macro_of_the_header_begins_with_the_library_s_name() {
    let header = include_str!("../include/image_cache.h");
    let macros = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    let foreign: Vec<_> = macros.filter(|name| !name.starts_with("IMAGE_CACHE_")).collect();
    assert!(foreign.is_empty(), "other names: {foreign:?}");
}

/// Parenthesises negative constants, so that `-IMAGE_CACHE_ERROR_IO` compiles. cbindgen does not.
fn parenthesise(header: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" -") {
        Some((define, number)) if line.starts_with("#define ") => format!("{define} (-{number})\n"),
        _ => format!("{line}\n"),
    };
    header.lines().map(line).collect()
}

/// Inserts the headings, which cbindgen cannot.
fn with_headings(header: &str) -> String {
    HEADINGS.iter().fold(header.to_owned(), |header, (function, heading)| {
        let declaration = format!("{function}(");
        // Comments and continued lines begin with a space.
        let line = header.lines().find(|line| line.contains(&declaration) && !line.starts_with([' ', '/']));
        let place = line.and_then(|line| header.find(&format!("\n{line}"))).and_then(|end| header[..end].rfind("/**"));
        let (before, after) = header.split_at(place.unwrap_or_else(|| panic!("{function} is not in the header")));
        format!("{before}/* {heading} {} */\n\n{after}", "-".repeat(100 - heading.len()))
    })
}
