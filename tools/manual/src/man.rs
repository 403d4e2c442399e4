//! Manual pages: one for each function, `image_cache.3` for the whole, `image_cache_types.3` for types and constants. Each type
//! has a page that leads there.

use std::fmt::Write as _;

use crate::header::{Block, Header, Item, Kind};

const OVERVIEW: &str = "image_cache";
const TYPES: &str = "image_cache_types";

/// The functions that return IMAGE_CACHE_ERROR_TIMED_OUT. The header says once for all which do not.
const MAY_TIME_OUT: [&str; 12] = [
    "image_cache_open",
    "image_cache_begin_write",
    "image_cache_commit",
    "image_cache_get_hit_count",
    "image_cache_list_cached",
    "image_cache_queue_image",
    "image_cache_delete_queued_image",
    "image_cache_delete_all_queued_images",
    "image_cache_delete_cached_image",
    "image_cache_delete_all_cached_images",
    "image_cache_prune",
    "image_cache_clean",
];

/// The longest line of text, in bytes.
const WIDTH: usize = 72;

/// Names and texts.
pub fn pages(header: &Header) -> Vec<(String, String)> {
    let mut pages: Vec<_> = header.functions().map(|item| (item.name.clone(), page(header, item))).collect();
    pages.push((OVERVIEW.to_owned(), overview(header)));
    pages.push((TYPES.to_owned(), types(header)));
    let types = header.items.iter().filter(|item| item.kind == Kind::Type);
    pages.extend(types.map(|item| (item.name.clone(), format!(".so man3/{TYPES}.3\n"))));
    pages
}

fn title(header: &Header, name: &str, summary: &str) -> String {
    format!(
        ".\\\" Generated from image_cache.h.\n.TH {} 3 \"\" \"libimage_cache {}\" \"Library Functions\"\n.nh\n.ad l\n.SH NAME\n{name} \\- {}\n",
        name,
        header.version,
        escaped(&uncapitalised(summary)),
    )
}

/// "Opens" becomes "opens"; "NULL" stays.
fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

fn page(header: &Header, item: &Item) -> String {
    let mut page = title(header, &item.name, item.summary());
    page += ".SH SYNOPSIS\n.nf\n.B #include <image_cache.h>\n.PP\n";
    for line in item.declaration.lines() {
        let _ = writeln!(page, "{}", literal(line));
    }
    page += ".fi\n.PP\nLink with \\-limage_cache.\n";
    let (mut description, mut values, mut notes, mut examples) =
        (String::new(), String::new(), String::new(), String::new());
    let mut is_of_values = false;
    for block in &item.comment {
        match block {
            Block::Paragraph(text) if text.starts_with("Returns") => {
                is_of_values = true;
                paragraph(&mut values, text);
            }
            Block::List(entries) if is_of_values => {
                is_of_values = false;
                list(&mut values, entries);
            }
            Block::Paragraph(text) if is_note(text) => paragraph(&mut notes, text),
            Block::Paragraph(text) => paragraph(&mut description, text),
            Block::List(entries) => list(&mut description, entries),
            Block::Code(_, lines) => code(&mut examples, lines),
        }
        if !matches!(block, Block::Paragraph(_)) {
            is_of_values = false;
        }
    }
    section(&mut page, "DESCRIPTION", &description);
    if item.declaration.contains("image_cache_error_t *error") {
        paragraph(&mut values, "It can also return:");
        list(&mut values, &common_statuses(&item.name));
    }
    section(&mut page, "RETURN VALUE", &values);
    section(&mut page, "NOTES", &notes);
    section(&mut page, "EXAMPLES", &examples);
    let related = header.functions().filter(|other| other.group == item.group && other.name != item.name);
    let names = related.map(|other| other.name.as_str()).chain([OVERVIEW, TYPES]);
    see_also(&mut page, names);
    page
}

/// The statuses that the beginning of the header names for all functions.
fn common_statuses(function: &str) -> Vec<(String, String)> {
    let mut statuses = Vec::new();
    // Options hold memory only.
    if !function.starts_with("image_cache_options_") {
        statuses.push(("IMAGE_CACHE_ERROR_FORKED", "the handle is that of the process that forked this one"));
    }
    if MAY_TIME_OUT.contains(&function) {
        statuses.push(("IMAGE_CACHE_ERROR_TIMED_OUT", "another process held the cache lock for 10 s"));
    }
    statuses.push(("IMAGE_CACHE_ERROR_NO_MEMORY", "an allocation failed, and nothing was lost"));
    statuses.push(("IMAGE_CACHE_ERROR_INTERNAL", "a defect of the library"));
    statuses.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn is_note(text: &str) -> bool {
    ["Threads:", "Durability:", "Blocks:"].iter().any(|word| text.starts_with(word))
}

fn overview(header: &Header) -> String {
    let mut page = title(header, OVERVIEW, "a local cache of virtual-machine images");
    page += ".SH SYNOPSIS\n.nf\n.B #include <image_cache.h>\n.fi\n.PP\nLink with \\-limage_cache.\n";
    for (title, lines) in &header.introduction {
        let _ = writeln!(page, ".SH {title}\n.nf");
        for line in lines {
            let _ = writeln!(page, "{}", literal(line.strip_prefix("  ").unwrap_or(line)));
        }
        page += ".fi\n";
    }
    page += ".SH FUNCTIONS\n";
    let mut group = "";
    for item in header.functions() {
        if item.group != group {
            group = &item.group;
            let _ = writeln!(page, ".SS {}", escaped(group));
        }
        let _ = writeln!(page, ".TP\n.BR {} (3)\n{}", item.name, lines(item.summary()));
    }
    see_also(&mut page, [TYPES].into_iter());
    page
}

fn types(header: &Header) -> String {
    let mut page = title(header, TYPES, "types and constants of libimage_cache");
    page += ".SH SYNOPSIS\n.nf\n.B #include <image_cache.h>\n.fi\n";
    for (title, kind) in [("TYPES", Kind::Type), ("CONSTANTS", Kind::Constant)] {
        let _ = writeln!(page, ".SH {title}");
        for item in header.items.iter().filter(|item| item.kind == kind) {
            let _ = writeln!(page, ".SS {}\n.nf", item.name);
            for line in item.declaration.lines() {
                let _ = writeln!(page, "{}", literal(line));
            }
            page += ".fi\n";
            for block in &item.comment {
                match block {
                    Block::Paragraph(text) => paragraph(&mut page, text),
                    Block::List(entries) => list(&mut page, entries),
                    Block::Code(_, lines) => code(&mut page, lines),
                }
            }
        }
    }
    see_also(&mut page, [OVERVIEW].into_iter());
    page
}

fn section(page: &mut String, title: &str, text: &str) {
    if !text.is_empty() {
        // A paragraph before the first line would be an empty one.
        let _ = write!(page, ".SH {title}\n{}", text.strip_prefix(".PP\n").unwrap_or(text));
    }
}

fn paragraph(page: &mut String, text: &str) {
    let _ = writeln!(page, ".PP\n{}", lines(text));
}

fn list(page: &mut String, entries: &[(String, String)]) {
    for (name, text) in entries {
        if name.is_empty() {
            let _ = writeln!(page, ".IP \\(bu 2\n{}", lines(text));
        } else {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(name), lines(text));
        }
    }
}

fn code(page: &mut String, lines: &[String]) {
    *page += ".PP\n.in +4n\n.EX\n";
    for line in lines {
        let _ = writeln!(page, "{}", literal(line));
    }
    *page += ".EE\n.in\n";
}

fn see_also<'a>(page: &mut String, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    *page += ".SH SEE ALSO\n";
    for (at, name) in names.iter().enumerate() {
        let comma = if at + 1 < names.len() { " ," } else { "" };
        let _ = writeln!(page, ".BR \\%{name} (3){comma}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "")
}

/// Lines of text. One that begins as a request gets a mark of no width.
fn lines(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let escaped: Vec<_> = lines
        .iter()
        .map(|line| escaped(line))
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line })
        .collect();
    escaped.join("\n")
}

/// A line of code.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
