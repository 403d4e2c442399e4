//! `convert`: another driver keeps the metadata. Hits and last accesses are carried over.
//!
//! 1. The hits and last accesses are listed through the former driver, and stored in a file: [`Conversion`].
//! 2. The directory is opened with the new driver. From here on, the former one is refused.
//! 3. Each image gets its hits and its last access. Glance's xattr driver cannot read an image without hits: 0 are written, too.
//! 4. The former index, or the hits in the attributes, are removed, and then the file.
//!
//! While the file is there and the driver is not the former one, steps 3 and 4 are to be finished. The next `convert` does that first.

use std::collections::HashMap;

use clap::Args;
use image_cache::{Error, ImageCache};
use serde::Serialize;

use crate::cli::Driver;
use crate::conversion::{Access, Conversion};
use crate::exit::{Exit, Failure};
use crate::kept_driver::KeptDriver;
use crate::open::{Context, check_index};
use crate::output::{Page, Shown};
use crate::units::{count, images};

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "Stop the agents first, and open the cache with the new driver afterwards: an
open with the former one is refused. While another process has the cache open,
nothing is converted: exit code 4. If a conversion fails or is killed, run it
again: no hits are lost.

Example: for a Glance that keeps its metadata in extended attributes
  image-cachectl convert xattr")]
pub struct Arguments {
    /// The new driver
    #[arg(value_enum)]
    to: Driver,
    /// Shows what would be converted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let cache = context.open()?;
    let directory = context.directory(settings);
    let from = Driver::from(cache.driver());
    // One of the present driver was not begun: it stored its file, and no more.
    let unfinished = Conversion::of(directory)?.filter(|conversion| conversion.from != from);
    if let Some(conversion) = unfinished.filter(|_| from == arguments.to || !arguments.dry_run) {
        if !arguments.dry_run {
            finish(context, &cache, &conversion, true)?;
        }
        if from == arguments.to {
            return print(context, arguments, &conversion);
        }
    }
    if from == arguments.to {
        return Err(Failure::usage(format!("the cache has the {} driver already", from.name())));
    }
    check_is_only(&cache)?;
    if arguments.to == Driver::Sqlite {
        check_index(directory, settings.database.as_deref())?;
    }
    let images = cache.list_cached()?.map(|image| Access(image.image_id, image.hits, image.last_accessed)).collect();
    // The name of the database is the directory's, before the record changes.
    let database = KeptDriver::of(directory)?.and_then(|kept| kept.database).filter(|_| from == Driver::Sqlite);
    let conversion = Conversion { from, database, images };
    if !arguments.dry_run {
        conversion.store(directory)?;
        drop(cache);
        let opened = context.open_with(|options| Ok(options.driver(arguments.to.choice()).change_driver(true)));
        if !KeptDriver::of(directory)?.is_some_and(|kept| kept.driver == arguments.to) {
            Conversion::discard(directory);
            opened?;
            return Err(Failure::new(Exit::Failed, "the driver was not changed: its record cannot be written")
                .hint("Convert again once the directory can be written. No hits are lost."));
        }
        let cache = opened?;
        finish(context, &cache, &conversion, false)?;
        if !cache.is_only_handle().unwrap_or(true) {
            let warning = "another process opened the cache meanwhile: restart it if it uses the former driver";
            context.output.message("warning", warning);
        }
    }
    print(context, arguments, &conversion)
}

/// Sets the accesses, and removes the former index and the stored accesses. Other processes may use the cache meanwhile. In a later run,
/// images may have more hits and a later access by now: these stay.
fn finish(context: &Context, cache: &ImageCache, conversion: &Conversion, is_later: bool) -> Result<(), Failure> {
    let again = |failure: Failure| match failure.hint {
        None => failure.hint("Convert again: the rest is done then. No hits are lost."),
        Some(_) => failure,
    };
    let listed = if is_later { Some(cache.list_cached().map_err(Failure::from).map_err(again)?) } else { None };
    let present: HashMap<_, _> =
        listed.into_iter().flatten().map(|image| (image.image_id, (image.hits, image.last_accessed))).collect();
    for Access(id, hits, last_accessed) in &conversion.images {
        let (present_hits, present_access) = present.get(id).copied().unwrap_or_default();
        match cache.set_access(id, present_hits.max(*hits), present_access.max(*last_accessed)) {
            // Another program has removed it.
            Err(Error::NotFound { .. }) => {}
            set => set.map_err(Failure::from).map_err(again)?,
        }
    }
    conversion.remove(context.directory(context.settings()?)).map_err(again)
}

fn print(context: &Context, arguments: &Arguments, conversion: &Conversion) -> Result<Exit, Failure> {
    let hits = conversion.images.iter().fold(0, |sum: u64, Access(_, hits, _)| sum.saturating_add(*hits));
    let images = conversion.images.len() as u64;
    context.output.print(&Converted {
        dry_run: arguments.dry_run,
        from: conversion.from,
        to: arguments.to,
        images,
        hits,
    })?;
    Ok(Exit::Done)
}

/// Another process would go on with the former driver, and its hits would be lost.
fn check_is_only(cache: &ImageCache) -> Result<(), Failure> {
    if cache.is_only_handle()? {
        return Ok(());
    }
    Err(Failure::new(Exit::Busy, "another process has the cache open, or it cannot be written")
        .hint("Stop the agents, and convert again."))
}

#[derive(Debug, Serialize)]
struct Converted {
    dry_run: bool,
    from: Driver,
    to: Driver,
    images: u64,
    hits: u64,
}

impl Shown for Converted {
    fn text(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be converted" } else { "converted" };
        page.line(format!(
            "{} with {} hits {verb}: from {} to {}",
            images(self.images),
            count(self.hits),
            self.from.name(),
            self.to.name()
        ));
    }
}
