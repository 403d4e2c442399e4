//! The header's items and their comments.

/// The header.
pub struct Header {
    pub version: String,
    /// The comment at its beginning: titles and their lines.
    pub introduction: Vec<(String, Vec<String>)>,
    pub items: Vec<Item>,
}

/// A function, type or constant.
pub struct Item {
    pub kind: Kind,
    pub name: String,
    /// Without comments.
    pub declaration: String,
    /// The heading before a function.
    pub group: String,
    pub comment: Vec<Block>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Function,
    Type,
    Constant,
}

/// A part of a comment.
pub enum Block {
    Paragraph(String),
    /// Names and what is said of them; an empty name where there is none.
    List(Vec<(String, String)>),
    /// The language and the lines.
    Code(String, Vec<String>),
}

impl Header {
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<_> = text.lines().collect();
        let mut header = Self { version: version(&lines), introduction: introduction(&lines), items: Vec::new() };
        let mut group = String::new();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            at += 1;
            if let Some(heading) = line.strip_prefix("/* ").and_then(|rest| rest.strip_suffix("- */")) {
                group = heading.trim_end_matches('-').trim().to_owned();
            }
            if *line != "/**" {
                continue;
            }
            let end = at + lines[at..].iter().position(|line| *line == " */").ok_or("a comment has no end")?;
            let comment: Vec<_> = lines[at..end].iter().map(|line| uncommented(line)).collect();
            let declared = &lines[end + 1..];
            let length = declaration_length(declared);
            let declaration = declaration(&declared[..length]);
            let (kind, name) = name_of(&declaration).ok_or_else(|| format!("no name in {declaration}"))?;
            let group = if kind == Kind::Function { group.clone() } else { String::new() };
            header.items.push(Item { kind, name, declaration, group, comment: blocks(&comment) });
            at = end + 1 + length;
        }
        let functions = header.functions().count();
        if functions < 40 { Err(format!("only {functions} functions were found")) } else { Ok(header) }
    }

    pub fn functions(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.kind == Kind::Function)
    }
}

impl Item {
    /// What it is, in one line without the full stop.
    pub fn summary(&self) -> &str {
        let first = match self.comment.first() {
            Some(Block::Paragraph(text)) => text,
            _ => "",
        };
        first.split_once(". ").map_or(first.trim_end_matches('.'), |(sentence, _)| sentence)
    }
}

fn version(lines: &[&str]) -> String {
    let number = |name: &str| {
        let define = format!("#define IMAGE_CACHE_VERSION_{name} ");
        lines.iter().find_map(|line| line.strip_prefix(&define)).unwrap_or("0")
    };
    format!("{}.{}.{}", number("MAJOR"), number("MINOR"), number("PATCH"))
}

/// The titles are lines of capitals.
fn introduction(lines: &[&str]) -> Vec<(String, Vec<String>)> {
    let end = lines.iter().position(|line| *line == " */").unwrap_or(0);
    let mut sections = Vec::new();
    for line in lines[..end].iter().map(|line| uncommented(line)) {
        let is_title = !line.is_empty() && line.chars().all(|letter| letter.is_ascii_uppercase() || letter == ' ');
        if is_title {
            sections.push((line.to_owned(), Vec::new()));
        } else if let Some((_, text)) = sections.last_mut() {
            text.push(line.to_owned());
        }
    }
    for (_, text) in &mut sections {
        while text.last().is_some_and(String::is_empty) {
            text.pop();
        }
        let blank = text.iter().take_while(|line| line.is_empty()).count();
        text.drain(..blank);
    }
    sections
}

fn uncommented(line: &str) -> &str {
    line.strip_prefix(" * ").unwrap_or_else(|| line.trim_start_matches([' ', '*']))
}

fn declaration_length(lines: &[&str]) -> usize {
    let is_macro = lines.first().is_some_and(|line| line.starts_with("#define"));
    let has_body = lines.first().is_some_and(|line| line.ends_with('{'));
    let is_last = |line: &&str| if has_body { line.starts_with('}') } else { is_macro || line.ends_with(';') };
    lines.iter().position(is_last).map_or(0, |last| last + 1)
}

/// Without the comments of fields.
fn declaration(lines: &[&str]) -> String {
    let mut is_comment = false;
    let mut text = Vec::new();
    for line in lines {
        let trimmed = line.trim();
        if trimmed.starts_with("/**") {
            is_comment = true;
        }
        if !is_comment {
            text.push(*line);
        }
        if trimmed.ends_with("*/") {
            is_comment = false;
        }
    }
    text.join("\n")
}

fn name_of(declaration: &str) -> Option<(Kind, String)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let word = |text: &str| text.chars().take_while(|letter| is_part(*letter)).collect::<String>();
    if let Some(rest) = declaration.strip_prefix("#define ") {
        return Some((Kind::Constant, word(rest)));
    }
    if declaration.starts_with("typedef") {
        if let Some((_, rest)) = declaration.split_once("(*") {
            return Some((Kind::Type, word(rest)));
        }
        let last = declaration.trim_end_matches(';').rsplit([' ', '*']).next()?;
        return Some((Kind::Type, last.to_owned()));
    }
    let (before, _) = declaration.split_once('(')?;
    Some((Kind::Function, before.rsplit([' ', '*']).next()?.to_owned()))
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = lines.iter().peekable();
    let mut is_new = true;
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```")).map(|line| (*line).to_owned());
            blocks.push(Block::Code(language.to_owned(), code.collect()));
            is_new = true;
        } else if line.is_empty() {
            is_new = true;
        } else if let Some(entry) = line.strip_prefix("- ") {
            let entry = named(entry);
            match blocks.last_mut() {
                Some(Block::List(entries)) => entries.push(entry),
                _ => blocks.push(Block::List(vec![entry])),
            }
            is_new = false;
        } else {
            match blocks.last_mut() {
                Some(Block::List(entries)) if line.starts_with("  ") => {
                    let (_, text) = entries.last_mut().expect("a list has entries");
                    *text += " ";
                    *text += line.trim();
                }
                Some(Block::Paragraph(text)) if !is_new => {
                    *text += " ";
                    *text += line.trim();
                }
                _ => blocks.push(Block::Paragraph(line.trim().to_owned())),
            }
            is_new = false;
        }
    }
    blocks
}

/// An entry's name is a word before a colon.
fn named(entry: &str) -> (String, String) {
    match entry.split_once(": ") {
        Some((name, text)) if !name.contains(' ') => (name.trim_matches('`').to_owned(), text.to_owned()),
        _ => (String::new(), entry.to_owned()),
    }
}
