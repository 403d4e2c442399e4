//! Manual pages of section 1, from the command line: one for the program, and one for each command.
//!
//! `clap_mangen` writes names, descriptions and options. Examples are here, since it would fill them as prose.

use std::fmt::Write as _;
use std::io;

use clap::Command;
use clap_mangen::Man;

use crate::exit::Exit;

/// The exit codes and what they mean, for the first page. `docs/image-cachectl.md` has more words.
const EXITS: [(Exit, &str); 11] = [
    (Exit::Done, "done, also if there was nothing to do"),
    (Exit::Failed, "another failure, which the message describes"),
    (Exit::Usage, "wrong arguments, or a wrong configuration"),
    (Exit::NotFound, "the image is not cached, not queued, or not pinned by that holder"),
    (Exit::Busy, "in the way: cached already, being cached, pinned, in use; the file exists"),
    (Exit::Damaged, "not the expected bytes; verify found damage"),
    (Exit::NoRoom, "no room within the limit or on the disk"),
    (Exit::NoCache, "the directory has no cache"),
    (Exit::Findings, "a check has findings"),
    (Exit::Interrupted, "a signal stopped it"),
    (Exit::OutputClosed, "the reader of the output has closed it"),
];

/// The names and texts of all pages.
pub fn pages(mut program: Command) -> io::Result<Vec<(String, String)>> {
    program.build();
    let mut found = Vec::new();
    add(&program, program.get_name(), &mut found)?;
    Ok(found)
}

fn add(command: &Command, name: &str, found: &mut Vec<(String, String)>) -> io::Result<()> {
    found.push((format!("{name}.1"), page(command, name)?));
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        add(subcommand, &format!("{name}-{}", subcommand.get_name()), found)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> io::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    // Without a date, so that two builds are the same.
    let mut text = format!(
        ".\\\" Generated from the command line of image-cachectl.\n.ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n\
         .TH {} 1 \"\" \"image-cachectl {version}\" \"System Administration\"\n",
        name.to_uppercase()
    );
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(text, ".SH NAME\n{} \\- {}\n", escaped(name), escaped(&about(command)));
    let _ = write!(text, ".SH SYNOPSIS\n{}\n", escaped(usage));
    let man = Man::new(command.clone());
    let section = |render: &dyn Fn(&mut Vec<u8>) -> io::Result<()>| {
        let mut bytes = Vec::new();
        render(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).replace(".br\n\n.br\n", ".br\n"))
    };
    text += &section(&|bytes| man.render_options_section(bytes))?;
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        text += ".SH COMMANDS\n";
        for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            let page = format!("{name}-{}", subcommand.get_name());
            let _ = write!(text, ".TP\n\\fB{}\\fR(1)\n{}\n", escaped(&page), escaped(&about(subcommand)));
        }
    }
    if command.get_subcommands().next().is_some() && !name.contains("cachectl-") {
        text += &first_page();
    }
    text += &after(&command.get_after_help().map(ToString::to_string).unwrap_or_default());
    Ok(text)
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// What only the first page has.
fn first_page() -> String {
    let mut text = ".SH \"EXIT STATUS\"\n".to_owned();
    for (exit, meaning) in EXITS {
        let _ = write!(text, ".TP\n{}\n{}\n", exit as u8, escaped(meaning));
    }
    text += ".SH ENVIRONMENT\n.TP\n\\fBIMAGE_CACHE_DIR\\fR\nThe directory, unless \\fB\\-C\\fR is given\n\
             .TP\n\\fBIMAGE_CACHE_CONFIG\\fR\nThe configuration file, unless \\fB\\-\\-config\\fR is given\n\
             .TP\n\\fBNO_COLOR\\fR\nNo colours\n\
             .SH FILES\n.TP\n\\fI/etc/image\\-cache.toml\\fR\n\
             directory, max\\-size, min\\-free, stall\\-time, formats, driver, database: settings of one cache\n\
             .SH \"SEE ALSO\"\n\\fBimage_cache\\fR(3)\n";
    text
}

/// Prose, then examples, whose lines are indented.
fn after(help: &str) -> String {
    let mut text = String::new();
    let (mut is_notes, mut is_literal) = (false, false);
    for line in help.lines() {
        let (is_example, is_heading) = (line.starts_with("  "), line.starts_with("Example"));
        if is_literal && !is_example {
            text += ".fi\n.RE\n";
            is_literal = false;
        }
        if is_heading {
            text += ".SH EXAMPLES\n";
            let caption = line.split_once(": ").map_or("", |(_, caption)| caption);
            if !caption.is_empty() {
                let mut letters = caption.chars();
                let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
                let _ = writeln!(text, "{}:", escaped(&(first + letters.as_str())));
            }
            is_notes = false;
        } else if is_example {
            if !is_literal {
                text += ".RS 2\n.nf\n";
                is_literal = true;
            }
            let _ = writeln!(text, "{}", escaped(line.trim()));
        } else if !line.is_empty() {
            if !is_notes {
                text += ".SH NOTES\n";
                is_notes = true;
            }
            let _ = writeln!(text, "{}", escaped(line));
        }
    }
    if is_literal {
        text += ".fi\n.RE\n";
    }
    text
}

/// Text in which no character is a command of roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_literal_and_prose_is_not() {
        let page = after("Some prose.\n\nExamples: one\n  tool -a 'x'\n  tool\n\nMore.");
        assert_eq!(
            page,
            ".SH NOTES\nSome prose.\n.SH EXAMPLES\nOne:\n.RS 2\n.nf\ntool \\-a \\(aqx\\(aq\ntool\n.fi\n.RE\n.SH NOTES\nMore.\n"
        );
    }
}
