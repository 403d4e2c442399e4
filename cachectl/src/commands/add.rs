//! `add`: a file, or stdin, becomes a cached image.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use clap::Args;
use image_cache::{Algorithm, Copied, CopyMode, ImageCache, ImportOptions, Inspector};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::image::Image;
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{parse_size, size};

/// Arguments of `add`.
#[derive(Debug, Args)]
#[command(after_help = "Without FILE, stdin is read to its end. A download that breaks off looks like
a shorter image, so give a digest or the size. With --size, an image that is
larger than the limit is refused before anything is evicted for it. An image without bytes is
refused, unless --size is 0. What fails stays in invalid/, with the reason,
until the next 'clean'. With --verbose, each image that is evicted for it is
named.

Examples:
  image-cachectl add cirros cirros.img --digest sha256:$SHA256
  curl -sf $URL | image-cachectl add noble --digest $SHA256
  image-cachectl add appliance disk.qcow2 --formats qcow2")]
pub struct Arguments {
    /// The image's id
    image: String,
    /// The file; '-': stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The digest that the bytes must have; without ALGORITHM, its length says which of md5, sha256, sha512 and crc64nvme it is.
    /// Can be repeated
    #[arg(long = "digest", value_name = "[ALGORITHM:]HEX", value_parser = parse_digest)]
    digests: Vec<(Algorithm, String)>,
    /// The size that the image must have
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// The formats that it may have, of raw, qcow2, vmdk, vhd, vhdx and iso
    #[arg(long, value_name = "FORMAT,...")]
    formats: Option<String>,
    /// Whether blocks are shared with FILE; auto: where the file systems can
    #[arg(long, value_enum, default_value_t = super::export::Reflink::Auto)]
    reflink: super::export::Reflink,
}

/// The algorithm is that of the name, or the one whose digests have that length.
fn parse_digest(text: &str) -> Result<(Algorithm, String), String> {
    let (algorithm, hex) = match text.split_once(':') {
        Some((name, hex)) => {
            (Algorithm::from_name(&name.to_ascii_lowercase()).map_err(|error| error.to_string())?, hex)
        }
        None => match text.len() {
            16 => (Algorithm::Crc64Nvme, text),
            32 => (Algorithm::Md5, text),
            64 => (Algorithm::Sha256, text),
            128 => (Algorithm::Sha512, text),
            length => return Err(format!("no digest has {length} digits: md5 has 32, sha256 64, sha512 128")),
        },
    };
    Ok((algorithm, hex.to_owned()))
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let source = Source::open(arguments)?;
    let allows_empty = arguments.size == Some(0);
    let cache = context.open_with(|mut options| {
        if let Some(formats) = &arguments.formats {
            options = options.formats(formats)?;
        }
        Ok(options.inspector(Inspector::new(move |_, _, length| match length {
            0 if !allows_empty => Err("it is empty, which --size 0 allows".to_owned()),
            _ => Ok(()),
        })))
    })?;
    let added = add(context, &cache, arguments, source.descriptor())?;
    context.output.print(&added)?;
    Ok(Exit::Done)
}

enum Source {
    File(File),
    Stdin(io::Stdin),
}

impl Source {
    fn open(arguments: &Arguments) -> Result<Self, Failure> {
        if arguments.file.as_os_str() != "-" {
            let opened = File::open(&arguments.file);
            let operation = || format!("open '{}'", arguments.file.display());
            return opened.map(Self::File).map_err(|error| Failure::io(&operation(), &error));
        }
        if io::stdin().is_terminal() {
            return Err(Failure::usage("the image would be read from the terminal")
                .hint("Name a file, or pipe the image into this command."));
        }
        Ok(Self::Stdin(io::stdin()))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) => file.as_fd(),
            Self::Stdin(stdin) => stdin.as_fd(),
        }
    }
}

fn add(context: &Context, cache: &ImageCache, arguments: &Arguments, source: BorrowedFd<'_>) -> Result<Added, Failure> {
    context.stop.watch();
    let bar = context.progress.bytes(&arguments.image, arguments.size.unwrap_or(0));
    let options =
        ImportOptions { mode: arguments.reflink.mode(), size: arguments.size, digests: arguments.digests.clone() };
    let copied = cache.import(&arguments.image, source, &options, |done, total| {
        bar.set(done, total);
        context.stop.flow()
    });
    drop(bar);
    let copied = copied?;
    Ok(Added { image: Image::new(&cache.get_image(&arguments.image)?, true), copied: name_of(copied) })
}

/// How bytes were copied, in JSON.
pub fn name_of(copied: Copied) -> &'static str {
    match copied {
        Copied::Reflink => "reflink",
        Copied::InKernel => "in_kernel",
        Copied::Bytes => "bytes",
    }
}

#[derive(Debug, Serialize)]
struct Added {
    image: Image,
    copied: &'static str,
}

impl Shown for Added {
    fn text(&self, page: &mut Page) {
        let how = if self.copied == "reflink" { ", blocks shared" } else { "" };
        page.line(format!("Image '{}' is cached: {}{how}", self.image.id, size(self.image.size)));
        if let Some(digest) = &self.image.digest {
            page.line(digest);
        }
    }
}

impl super::export::Reflink {
    /// The library's mode.
    pub fn mode(self) -> CopyMode {
        match self {
            Self::Auto => CopyMode::Any,
            Self::Always => CopyMode::Reflink,
            Self::Never => CopyMode::Copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_digest_says_its_algorithm() {
        for (length, algorithm) in
            [(16, Algorithm::Crc64Nvme), (32, Algorithm::Md5), (64, Algorithm::Sha256), (128, Algorithm::Sha512)]
        {
            let hex = "a".repeat(length);
            assert_eq!(parse_digest(&hex), Ok((algorithm, hex.clone())));
            assert_eq!(parse_digest(&format!("{}:{hex}", algorithm.name())), Ok((algorithm, hex)));
        }
        assert!(parse_digest("abc").is_err() && parse_digest("sha1:abc").is_err());
    }
}
