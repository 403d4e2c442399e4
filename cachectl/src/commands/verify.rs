//! `verify`: the bytes on the disk are compared with the digests that were stored at the commits.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use image_cache::{ImageCache, Verified, VerifyOptions};
use serde::Serialize;

use crate::each::{Problem, each};
use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{count, images, parse_duration, parse_size, size};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "A damaged image is moved to invalid/, and the exit code is 5. Images that were
verified longest ago come first, so a pass that was stopped goes on where it
was. Several runs at once share the work.

Examples: all images at 100 MiB/s, those of this week left out; one image
  image-cachectl verify --rate 100M --skip 7d
  image-cachectl verify cirros")]
pub struct Arguments {
    /// The images' ids [default: all images]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Reads at most so many bytes a second
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    rate: Option<u64>,
    /// Leaves out images that were verified within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    skip: Option<Duration>,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text.trim_end_matches("/s"))?;
    if bytes == 0 { Err("with 0 bytes a second, it never ends".to_owned()) } else { Ok(bytes) }
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    context.stop.watch();
    let begun = Instant::now();
    let options = VerifyOptions {
        bytes_per_second: arguments.rate.unwrap_or(0),
        skip_verified_within: arguments.skip.unwrap_or_default(),
    };
    let before = invalid(&cache)?;
    let mut sum = Sum::default();
    let (failed, mut exit) = if arguments.images.is_empty() {
        sum.add(&verify(context, &cache, None, &options)?);
        (Vec::new(), Exit::Done)
    } else {
        let each = each(context, &arguments.images, |id| {
            sum.add(&verify(context, &cache, Some(id), &options)?);
            Ok(())
        });
        (each.failed, each.exit)
    };
    if exit == Exit::Done {
        exit = sum.exit();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let damaged_images =
        if sum.damaged == 0 { Vec::new() } else { invalid(&cache)?.difference(&before).cloned().collect() };
    context.output.print(&Shows { verified: sum, damaged_images, seconds, failed })?;
    Ok(exit)
}

/// The ids of the images in invalid/.
fn invalid(cache: &ImageCache) -> Result<BTreeSet<String>, Failure> {
    Ok(cache.list_invalid()?.into_iter().map(|image| image.image_id).collect())
}

fn verify(
    context: &Context,
    cache: &ImageCache,
    id: Option<&str>,
    options: &VerifyOptions,
) -> Result<Verified, Failure> {
    let total = match id {
        Some(id) => cache.image_size(id)?,
        None => cache.cache_size()?,
    };
    let bar = context.progress.bytes("verify", total);
    // The bytes of the images before, and of the present one.
    let (mut before, mut present) = (0_u64, (String::new(), 0));
    Ok(cache.verify(id, options, |id, done, length| {
        if present.0 != id {
            before = before.saturating_add(present.1);
            present = (id.to_owned(), length);
        }
        // Images that are skipped, or added meanwhile, change the sum.
        let done = before.saturating_add(done);
        bar.set(done, total.max(done));
        context.stop.flow()
    })?)
}

/// The results of all calls.
#[derive(Debug, Default, Serialize)]
struct Sum {
    intact: u64,
    damaged: u64,
    unreadable: u64,
    without_digest: u64,
    skipped: u64,
    bytes_read: u64,
    stopped: bool,
}

impl Sum {
    fn add(&mut self, verified: &Verified) {
        self.intact += verified.verified;
        self.damaged += verified.failed;
        self.unreadable += verified.unreadable;
        self.without_digest += verified.without_digest;
        self.skipped += verified.skipped;
        self.bytes_read += verified.bytes_read;
        self.stopped |= verified.stopped;
    }

    fn exit(&self) -> Exit {
        if self.damaged > 0 {
            Exit::Damaged
        } else if self.unreadable > 0 {
            Exit::Failed
        } else if self.stopped {
            Exit::Interrupted
        } else {
            Exit::Done
        }
    }
}

#[derive(Debug, Serialize)]
struct Shows {
    #[serde(flatten)]
    verified: Sum,
    /// Those that were moved to invalid/, where no other failure had their names.
    damaged_images: Vec<String>,
    seconds: f64,
    failed: Vec<Problem>,
}

impl Shown for Shows {
    fn text(&self, page: &mut Page) {
        let sum = &self.verified;
        page.good(&format!("{} intact, {} read", images(sum.intact), size(sum.bytes_read)));
        if sum.damaged > 0 {
            page.bad(&format!("{} damaged: moved to invalid/, see 'list --invalid'", images(sum.damaged)));
            self.damaged_images.iter().for_each(|id| page.line(format!("  {id}")));
        }
        if sum.unreadable > 0 {
            page.bad(&format!("{} not readable, or written to meanwhile", images(sum.unreadable)));
        }
        if sum.without_digest > 0 {
            page.line(format!("{} without a digest: one is stored for the next time", images(sum.without_digest)));
        }
        if sum.skipped > 0 {
            page.line(format!("{} skipped: verified before, or by another run", count(sum.skipped)));
        }
        if sum.stopped {
            page.warning("Stopped: the next run goes on from here.");
        }
    }
}
