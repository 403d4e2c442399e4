//! `list`: the images of the cache.

use std::cmp::Reverse;

use clap::{Args, ValueEnum};
use image_cache::{CachedImage, Holder, ImageCache, IncompleteImage, InvalidImage};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::image::Image;
use crate::open::Context;
use crate::output::{Column, Page, Shown};
use crate::units::{ago, count, images, rfc3339, size};

/// Arguments of `list`.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Args)]
#[command(after_help = "Examples: the ten images that are evicted next, the largest ones, and why fetches failed
  image-cachectl list --sort accessed --first 10
  image-cachectl list --sort size --first 10
  image-cachectl list --invalid")]
pub struct Arguments {
    /// The order: by id; largest, most read, or least recently accessed or cached first
    #[arg(long, value_enum, default_value_t = Sort::Id)]
    sort: Sort,
    /// Reverses the order
    #[arg(short, long)]
    reverse: bool,
    /// Shows so many images at most
    #[arg(long, value_name = "NUMBER")]
    first: Option<usize>,
    /// Prints ids only, one a line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Lists images that are being cached, and who has them
    #[arg(long, conflicts_with_all = ["invalid", "sort"])]
    incomplete: bool,
    /// Lists failed fetches, and why they failed
    #[arg(long, conflicts_with = "sort")]
    invalid: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Id,
    Size,
    Hits,
    Accessed,
    Cached,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    if arguments.incomplete {
        let mut list = cache.list_incomplete()?;
        cut(&mut list, arguments);
        let incomplete = list.iter().map(Incomplete::from).collect();
        print(context, arguments, &IncompleteList { incomplete, list }, |list| {
            ids(&list.list, |image| &image.image_id)
        })?;
    } else if arguments.invalid {
        let mut list = cache.list_invalid()?;
        cut(&mut list, arguments);
        let invalid = list.iter().map(Invalid::from).collect();
        print(context, arguments, &InvalidList { invalid, list }, |list| ids(&list.list, |image| &image.image_id))?;
    } else {
        let list = cached(&cache, arguments)?;
        // A list does not fail for pins that cannot be read.
        let knows_pins = list.first().is_none_or(|image| cache.pins(&image.image_id).is_ok());
        let images = list.iter().map(|image| Image::new(image, knows_pins)).collect();
        print(context, arguments, &List { images, cached: list, knows_pins }, |list| {
            ids(&list.cached, |image| &image.image_id)
        })?;
    }
    Ok(Exit::Done)
}

fn cached(cache: &ImageCache, arguments: &Arguments) -> Result<Vec<CachedImage>, Failure> {
    let mut list: Vec<_> = cache.list_cached()?.collect();
    // The list has the order of ids, which images with the same key keep.
    match arguments.sort {
        Sort::Id => {}
        Sort::Size => list.sort_by_key(|image| Reverse(image.size)),
        Sort::Hits => list.sort_by_key(|image| Reverse(image.hits)),
        Sort::Accessed => list.sort_by_key(|image| image.last_accessed),
        Sort::Cached => list.sort_by_key(|image| image.last_modified),
    }
    cut(&mut list, arguments);
    Ok(list)
}

fn cut<T>(list: &mut Vec<T>, arguments: &Arguments) {
    if arguments.reverse {
        list.reverse();
    }
    list.truncate(arguments.first.unwrap_or(usize::MAX));
}

fn ids<'a, T>(list: &'a [T], id: impl Fn(&'a T) -> &'a String) -> String {
    lines(list.iter().map(|image| id(image).as_str()))
}

/// Ids, one a line.
pub fn lines<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.fold(String::new(), |text, id| text + id + "\n")
}

fn print<T: Shown>(
    context: &Context,
    arguments: &Arguments,
    list: &T,
    ids: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if arguments.quiet { context.output.write(&ids(list)) } else { context.output.print(list) }
}

#[derive(Debug, Serialize)]
struct List {
    images: Vec<Image>,
    #[serde(skip)]
    cached: Vec<CachedImage>,
    #[serde(skip)]
    knows_pins: bool,
}

impl Shown for List {
    fn text(&self, page: &mut Page) {
        if self.cached.is_empty() {
            return page.line("No image is cached.");
        }
        let has_pins = self.cached.iter().any(|image| image.pinned_until > 0);
        let mut columns =
            vec![Column::Wide("IMAGE"), Column::Right("SIZE"), Column::Right("HITS"), Column::Right("ACCESSED")];
        if has_pins {
            columns.push(Column::Left("PINNED"));
        }
        page.table(
            &columns,
            self.cached.iter().map(|image| {
                let mut row =
                    vec![image.image_id.clone(), size(image.size), count(image.hits), ago(image.last_accessed)];
                if has_pins {
                    row.push(if image.pinned_until > 0 { "yes" } else { "" }.to_owned());
                }
                row
            }),
        );
        let bytes = self.cached.iter().fold(0, |sum: u64, image| sum.saturating_add(image.size));
        page.line(format!("{}, {}", images(self.cached.len() as u64), size(bytes)));
        if !self.knows_pins {
            page.line("Pins are not shown: this user may not read them.");
        }
    }
}

#[derive(Debug, Serialize)]
struct IncompleteList {
    incomplete: Vec<Incomplete>,
    #[serde(skip)]
    list: Vec<IncompleteImage>,
}

/// An image that is being cached.
#[derive(Debug, Serialize)]
pub struct Incomplete {
    id: String,
    size: u64,
    allocated: u64,
    /// `writer`, `streams`, `resumable`, `dead_writer` or `other_program`.
    holder: &'static str,
    process: Option<u32>,
    begun_at: Option<String>,
    written_at: String,
}

impl From<&IncompleteImage> for Incomplete {
    fn from(image: &IncompleteImage) -> Self {
        Self {
            id: image.image_id.clone(),
            size: image.size,
            allocated: image.allocated,
            holder: match image.holder {
                Holder::Writer => "writer",
                Holder::Streams => "streams",
                Holder::Resumable => "resumable",
                Holder::DeadWriter => "dead_writer",
                Holder::OtherProgram => "other_program",
            },
            process: image.process,
            begun_at: image.since.map(rfc3339),
            written_at: rfc3339(image.last_modified),
        }
    }
}

/// Who has an incomplete image, in two words.
pub fn holder(image: &IncompleteImage) -> String {
    let name = match image.holder {
        Holder::Writer => "writer",
        Holder::Streams => "streams",
        Holder::Resumable => "nobody, resumable",
        Holder::DeadWriter => "a dead writer",
        Holder::OtherProgram => "another program",
    };
    image.process.map_or(name.to_owned(), |process| format!("{name}, process {process}"))
}

impl Shown for IncompleteList {
    fn text(&self, page: &mut Page) {
        if self.list.is_empty() {
            return page.line("No image is being cached.");
        }
        page.table(
            &[Column::Wide("IMAGE"), Column::Right("SIZE"), Column::Right("WRITTEN"), Column::Left("HELD BY")],
            self.list
                .iter()
                .map(|image| vec![image.image_id.clone(), size(image.size), ago(image.last_modified), holder(image)]),
        );
    }
}

#[derive(Debug, Serialize)]
struct InvalidList {
    invalid: Vec<Invalid>,
    #[serde(skip)]
    list: Vec<InvalidImage>,
}

/// A failed fetch.
#[derive(Debug, Serialize)]
pub struct Invalid {
    id: String,
    size: u64,
    allocated: u64,
    reason: Option<String>,
    written_at: String,
}

impl From<&InvalidImage> for Invalid {
    fn from(image: &InvalidImage) -> Self {
        Self {
            id: image.image_id.clone(),
            size: image.size,
            allocated: image.allocated,
            reason: image.reason.clone(),
            written_at: rfc3339(image.last_modified),
        }
    }
}

impl Shown for InvalidList {
    fn text(&self, page: &mut Page) {
        if self.list.is_empty() {
            return page.line("No failed fetch is kept.");
        }
        // A reason does not fit into a column.
        for image in &self.list {
            page.line(format!("{}  {}, {}", image.image_id, size(image.size), ago(image.last_modified)));
            page.wrapped("    ", image.reason.as_deref().unwrap_or("for an unknown reason"));
        }
        page.line(format!("{} failed: 'clean' removes what is left of them", images(self.list.len() as u64)));
    }
}
