//! `export`: a cached image becomes a file, or goes to stdout.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use image_cache::{Copied, ExportOptions, ImageCache};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::commands::add::name_of;
use crate::exit::{Exit, Failure};
use crate::files::check_replaceable;
use crate::open::Context;
use crate::output::{Page, Shown, closed_or_failed};
use crate::units::size;

/// Bytes between two updates of the bar.
const PIECE: usize = 1 << 20;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "The file gets its name once it is whole and on the disk. It counts as an
access and a hit of the image.

Examples:
  image-cachectl export cirros /var/lib/guests/17.img
  image-cachectl export noble - | sha256sum")]
pub struct Arguments {
    /// The image's id
    image: String,
    /// The file, or a directory in which the file gets the image's id as its name; '-': stdout
    file: PathBuf,
    /// Replaces a file of that name
    #[arg(short, long)]
    force: bool,
    /// Does not wait for the disk
    #[arg(long)]
    no_sync: bool,
    /// Whether blocks are shared with the image; auto: where the file systems can
    #[arg(long, value_enum, default_value_t = Reflink::Auto)]
    reflink: Reflink,
}

/// Whether blocks are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reflink {
    /// Where the file systems can.
    Auto,
    /// Or the command fails.
    Always,
    /// All bytes are copied.
    Never,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.file.as_os_str() == "-" {
        if context.output.json {
            return Err(Failure::usage("--json and the image cannot both go to stdout"));
        }
        let cache = context.open()?;
        context.stop.watch();
        return to_stdout(context, &cache, &arguments.image).map(|()| Exit::Done);
    }
    // Before the cache is opened: its owner may not see the target.
    let file = if arguments.file.is_dir() { arguments.file.join(&arguments.image) } else { arguments.file.clone() };
    let is_taken = !arguments.force && file.symlink_metadata().is_ok();
    let cache = context.open()?;
    if is_taken {
        return Err(exists(&file));
    }
    context.stop.watch();
    let exported = to_file(context, &cache, arguments, &file)?;
    context.output.print(&exported)?;
    Ok(Exit::Done)
}

fn exists(file: &Path) -> Failure {
    Failure::new(Exit::Busy, format!("the file exists: '{}'", file.display())).hint("--force replaces it.")
}

fn to_file(context: &Context, cache: &ImageCache, arguments: &Arguments, file: &Path) -> Result<Exported, Failure> {
    // Before a file is made: an image that is not cached leaves nothing.
    let bytes = cache.image_size(&arguments.image)?;
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |operation: &str, error: &io::Error| Failure::io(&format!("{operation} '{}'", file.display()), error);
    let mut builder = tempfile::Builder::new();
    // As open(2) makes it: the umask takes bits away.
    let part = builder.prefix(".image-cachectl-").suffix(".part").permissions(Permissions::from_mode(0o666));
    let part = context.as_caller(|| part.tempfile_in(directory))?.map_err(|error| failed("create", &error))?;
    let bar = context.progress.bytes(&arguments.image, bytes);
    let options = ExportOptions { mode: arguments.reflink.mode(), sync: !arguments.no_sync };
    let copied = cache.export(&arguments.image, part.as_file(), options, |done, total| {
        bar.set(done, total);
        context.stop.flow()
    });
    drop(bar);
    context.as_caller(|| {
        // As the caller also if it failed: the part is removed.
        let part = copied.is_ok().then_some(part);
        let Some(part) = part else { return Ok(()) };
        name(part, file, arguments.force)?;
        let synced = || File::open(directory).and_then(|directory| directory.sync_all());
        if arguments.no_sync { Ok(()) } else { synced().map_err(|error| failed("sync", &error)) }
    })??;
    let copied = copied?;
    Ok(Exported::new(arguments, file, bytes, copied))
}

/// Gives the part its name, over no other file unless that may be replaced.
fn name(part: NamedTempFile, file: &Path, may_replace: bool) -> Result<(), Failure> {
    check_replaceable(file).map_err(|error| Failure::io(&format!("replace '{}'", file.display()), &error))?;
    let named = if may_replace { part.persist(file) } else { part.persist_noclobber(file) };
    named.map(drop).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => Failure::io(&format!("rename to '{}'", file.display()), &error.error),
    })
}

fn to_stdout(context: &Context, cache: &ImageCache, image: &str) -> Result<(), Failure> {
    let mut reader = cache.open_for_read(image)?;
    let bar = context.progress.bytes(image, reader.size());
    let mut stdout = io::stdout().lock();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        context.stop.check()?;
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return stdout.flush().map_err(|error| closed_or_failed(&error));
        }
        stdout.write_all(&buffer[..length]).map_err(|error| closed_or_failed(&error))?;
        done += length as u64;
        bar.set(done, reader.size());
    }
}

#[derive(Debug, Serialize)]
struct Exported {
    id: String,
    file: String,
    size: u64,
    copied: &'static str,
}

impl Exported {
    fn new(arguments: &Arguments, file: &Path, size: u64, copied: Copied) -> Self {
        Self { id: arguments.image.clone(), file: file.display().to_string(), size, copied: name_of(copied) }
    }
}

impl Shown for Exported {
    fn text(&self, page: &mut Page) {
        let how = if self.copied == "reflink" { ", blocks shared" } else { "" };
        page.line(format!("Image '{}' is in '{}': {}{how}", self.id, self.file, size(self.size)));
    }
}
