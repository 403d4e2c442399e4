//! A local cache of virtual-machine images, in the directory layout of OpenStack Glance's image cache.
//!
//! An agent that serves images out of a slow remote store keeps local copies here. [`ImageCache`] is the way in: it
//! reads cached images ([`Reader`]), writes new ones ([`Writer`]), delivers a source's bytes and caches them on the way
//! ([`Tee`]), shares one fetch among all readers of an image ([`Stream`]), keeps a queue of images to prefetch, and stays
//! within a limit ([`ImageCache::prune`], [`ImageCache::clean`]).
//! The same, for C and everything that can call C, is in [`ffi`] and in `include/image_cache.h`.
//!
//! ```
//! use image_cache::{Algorithm, ImageCache, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let directory = scratch.path().join("cache");
//! let cache = ImageCache::open(&directory, Options::new().max_size(10 << 30))?;
//!
//! let mut writer = cache.begin_write("cirros")?;
//! writer.expect_size(5)?;
//! writer.expect_digest(Algorithm::Md5, "5d41402abc4b2a76b9719d911017c592")?;
//! writer.write_chunk(b"hello")?;
//! writer.commit()?;
//!
//! let mut bytes = Vec::new();
//! std::io::copy(&mut cache.open_for_read("cirros")?, &mut bytes)?;
//! assert_eq!(bytes, b"hello");
//! assert_eq!(cache.hit_count("cirros")?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! The map of the crate, from the top down. Each layer imports only from those below it, which `tests/layers.rs` checks.
//!
//! - [`ffi`]: the C ABI, one file for each C object. It uses the public Rust API only.
//! - `cache`: the states of an image and the moves between them. `handle` is the public API, one file for each verb is below it.
//! - `options`: how a cache is opened. `inspector`: the caller's function that inspects images.
//! - `index`: metadata (hits, last access, totals, digests), in SQLite or in extended attributes.
//! - `store`: the directory (names, locks, marks, the stamp, the records of streams). Only `store::layout` knows paths.
//! - `digest`: hashing, and what is expected of an image. `format`: which format an image has, and whether it is safe to open.
//! - `sys`: the operating system. Every system call is made there. With `ffi`, it has the only `unsafe` code.
//! - `log`, `error`: what every layer may use.
//!
//! An image's way in: `ffi::writer` -> `cache::writer` -> `ingest` (count, hash, write) -> `incomplete` -> `publish` (sync, rename) ->
//! `name_change` (directory, index, stamp).

#![deny(unsafe_code)]
#![warn(missing_docs)]
// These would abort the host, or print into it.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod cache;
mod digest;
mod error;
pub mod ffi;
mod format;
mod index;
mod inspector;
mod log;
mod options;
mod store;
mod sys;

pub use crate::cache::bounds::usage::Usage;
pub use crate::cache::export::{Copied, CopyMode, ExportOptions};
pub use crate::cache::handle::ImageCache;
pub use crate::cache::import::ImportOptions;
pub use crate::cache::operator::Pin;
pub use crate::cache::prefetch::Prefetched;
pub use crate::cache::prune::Pruned;
pub use crate::cache::queue::QueuedImage;
pub use crate::cache::reader::Reader;
pub use crate::cache::statistics::Statistics;
pub use crate::cache::stream::handle::{Stream, StreamRole};
pub use crate::cache::stream::source::RangeSource;
pub use crate::cache::tee::Tee;
pub use crate::cache::unfinished::{Holder, IncompleteImage, InvalidImage};
pub use crate::cache::verify::pass::{Verified, VerifyOptions};
pub use crate::cache::writer::Writer;
pub use crate::digest::algorithm::Algorithm;
pub use crate::error::{BeingCached, Error, Result};
pub use crate::index::cached_image::CachedImage;
pub use crate::index::driver::{DriverChoice, DriverKind};
pub use crate::index::listing::Listing;
pub use crate::inspector::Inspector;
pub use crate::log::{Log, LogLevel};
pub use crate::options::{Durability, LimitMode, Options};
pub(crate) use crate::sys::thread::CancellationDisabled;
