//! What the program prints: text within 80 columns for people, or JSON for programs.
//!
//! A command fills a struct, which is its JSON, and writes it as text in [`Shown::text`]. Failures and warnings go to stderr.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use serde::Serialize;
use textwrap::{Options, WordSplitter};

use crate::doctor::finding::printable;
use crate::exit::{Exit, Failure};

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The columns of a page that does not go to a wider terminal.
const COLUMNS: usize = 80;

/// A result of a command. Its serialization is the JSON, whose fields `docs/image-cachectl.md` lists.
pub trait Shown: Serialize {
    /// Writes it for people.
    fn text(&self, page: &mut Page);
}

/// Where and how results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `--json`.
    pub json: bool,
    /// `--no-color`; anstream reads `NO_COLOR`, and knows pipes.
    pub no_color: bool,
}

impl Output {
    /// Prints a result.
    pub fn print(self, shown: &impl Shown) -> Result<(), Failure> {
        let text = if self.json {
            let json = serde_json::to_string_pretty(shown);
            json.map_err(|error| Failure::new(Exit::Failed, format!("cannot write the JSON: {error}")))? + "\n"
        } else {
            let mut page = Page::new(width());
            shown.text(&mut page);
            page.text
        };
        self.write(&text)
    }

    /// Prints text as it is: completions, for example.
    pub fn write(self, text: &str) -> Result<(), Failure> {
        // JSON has no colours, and anstream would remove a DEL from it.
        let choice = if self.json { ColorChoice::AlwaysAnsi } else { self.choice(&io::stdout()) };
        let mut stdout = AutoStream::new(io::stdout().lock(), choice);
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| closed_or_failed(&error))
    }

    /// Prints a failure. There is nobody to report a failure of stderr to.
    pub fn failure(self, failure: &Failure) {
        if failure.exit == Exit::OutputClosed {
            return;
        }
        let text = if self.json {
            let error = serde_json::json!({
                "error": { "code": failure.exit.name(), "message": failure.message, "hint": failure.hint }
            });
            format!("{error}\n")
        } else {
            let hint = failure.hint.as_ref().map(|hint| format!("{}\n", printable(hint))).unwrap_or_default();
            format!("{BAD}image-cachectl:{BAD:#} {}\n{hint}", printable(&failure.message))
        };
        self.to_stderr(&text);
    }

    /// Prints a message of the library, such as a warning.
    pub fn message(self, level: &str, message: &str) {
        let style = if level == "error" { BAD } else { WARNING };
        self.to_stderr(&format!("{style}{level}:{style:#} {}\n", printable(message)));
    }

    fn to_stderr(self, text: &str) {
        let choice = self.choice(&io::stderr());
        let mut stderr = AutoStream::new(io::stderr().lock(), choice);
        let _ = stderr.write_all(text.as_bytes());
    }

    fn choice(self, stream: &impl anstream::stream::RawStream) -> ColorChoice {
        if self.no_color || self.json { ColorChoice::Never } else { AutoStream::choice(stream) }
    }
}

/// The failure of a write to stdout.
pub fn closed_or_failed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::OutputClosed, "the output was closed"),
        // Not the code for a disk without room: the command may have done its work.
        _ => Failure { exit: Exit::Failed, ..Failure::io("write the output", error) },
    }
}

/// The columns of the terminal, or 80.
fn width() -> usize {
    if !io::stdout().is_terminal() {
        return COLUMNS;
    }
    terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0).max(40))
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Text that is cut if it does not fit: image ids, for example. A table has at most one.
    Wide(&'static str),
    /// Text.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Text for people, which a command writes. Control characters are escaped: ids, paths and reasons come from others, and must not
/// control a terminal or add lines.
#[derive(Debug)]
pub struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    /// A line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(&printable(line.as_ref()));
        self.text.push('\n');
    }

    fn styled(&mut self, style: Style, line: &str) {
        let _ = writeln!(self.text, "{style}{}{style:#}", printable(line));
    }

    /// A heading.
    pub fn heading(&mut self, heading: &str) {
        self.styled(HEADING, heading);
    }

    /// A line that says that something is as it should be.
    pub fn good(&mut self, line: &str) {
        self.styled(GOOD, line);
    }

    /// A line that says that something needs attention.
    pub fn warning(&mut self, line: &str) {
        self.styled(WARNING, line);
    }

    /// A line that says that something is wrong.
    pub fn bad(&mut self, line: &str) {
        self.styled(BAD, line);
    }

    /// Long text, with an indentation.
    pub fn wrapped(&mut self, indentation: &str, text: &str) {
        let options = Options::new(self.width).break_words(false).word_splitter(WordSplitter::NoHyphenation);
        let options = options.initial_indent(indentation).subsequent_indent(indentation);
        for line in textwrap::wrap(&printable(text), options) {
            self.line(line);
        }
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.text.push('\n');
    }

    /// Names and their values, one pair a line, in two columns.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        let widest = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            let options = Options::new(self.width.saturating_sub(widest + 2)).break_words(false);
            let value = printable(value);
            let lines = textwrap::wrap(&value, options.word_splitter(WordSplitter::NoHyphenation));
            let _ =
                writeln!(self.text, "{HEADING}{name:widest$}{HEADING:#}  {}", lines.first().map_or("", |line| line));
            for line in lines.iter().skip(1) {
                let _ = writeln!(self.text, "{:widest$}  {line}", "");
            }
        }
    }

    /// A table, whose widest column is cut so that it fits the page.
    pub fn table(&mut self, columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_truncation_indicator("…");
        let name = |column: &Column| match *column {
            Column::Wide(name) | Column::Left(name) | Column::Right(name) => name,
        };
        table.set_header(columns.iter().map(name));
        for cells in rows {
            let mut row = Row::from(cells.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        let widths = table.column_max_content_widths();
        let others: usize = columns
            .iter()
            .zip(&widths)
            .filter(|(column, _)| !matches!(column, Column::Wide(_)))
            .map(|(_, width)| usize::from(*width))
            .sum();
        let last = columns.len().saturating_sub(1);
        let left = self.width.saturating_sub(others + 2 * last).max(8);
        for (place, column) in columns.iter().enumerate() {
            let Some(shown) = table.column_mut(place) else { continue };
            shown.set_padding((0, if place == last { 0 } else { 2 }));
            match column {
                Column::Right(_) => {
                    shown.set_cell_alignment(CellAlignment::Right);
                }
                Column::Wide(_) => {
                    let most = u16::try_from(left + if place == last { 0 } else { 2 }).unwrap_or(u16::MAX);
                    shown.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(most)));
                    continue;
                }
                Column::Left(_) => {}
            }
            shown.set_constraint(ColumnConstraint::ContentWidth);
        }
        table.set_width(u16::try_from(self.width).unwrap_or(u16::MAX));
        for (number, line) in table.lines().enumerate() {
            if number == 0 { self.heading(line.trim_end()) } else { self.line(line.trim_end()) }
        }
    }
}
