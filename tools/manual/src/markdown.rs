//! The reference: one page in Markdown, with a heading for each item.

use std::fmt::Write as _;

use crate::header::{Block, Header, Item, Kind};

pub fn reference(header: &Header) -> String {
    let mut page =
        format!("# Reference\n\nThe C functions of libimage_cache {}, from `image_cache.h`.\n", header.version);
    for (title, lines) in &header.introduction {
        let _ = write!(page, "\n## {}\n\n```text\n{}\n```\n", sentence_case(title), lines.join("\n"));
    }
    let mut group = "";
    for item in header.functions() {
        if item.group != group {
            group = &item.group;
            let _ = write!(page, "\n## {group}\n");
        }
        write_item(&mut page, item);
    }
    for (title, kind) in [("Types", Kind::Type), ("Constants", Kind::Constant)] {
        let _ = write!(page, "\n## {title}\n");
        header.items.iter().filter(|item| item.kind == kind).for_each(|item| write_item(&mut page, item));
    }
    page
}

fn write_item(page: &mut String, item: &Item) {
    let _ = write!(page, "\n### {}\n\n```c\n{}\n```\n", item.name, item.declaration);
    for block in &item.comment {
        page.push('\n');
        match block {
            Block::Paragraph(text) => *page += &format!("{text}\n"),
            Block::List(entries) => {
                for (name, text) in entries {
                    let name = if name.is_empty() { String::new() } else { format!("`{name}`: ") };
                    let _ = writeln!(page, "- {name}{text}");
                }
            }
            Block::Code(language, lines) => *page += &format!("```{language}\n{}\n```\n", lines.join("\n")),
        }
    }
}

fn sentence_case(title: &str) -> String {
    let (first, rest) = title.split_at(1);
    format!("{first}{}", rest.to_lowercase())
}
