//! A local cache of virtual-machine images, in the directory layout of OpenStack Glance's image cache.
//!
//! An agent that serves images out of a slow remote store keeps local copies here. [`ImageCache`] is the way in: it
//! reads cached images ([`Reader`]), writes new ones ([`Writer`]), passes a stream on while it caches it ([`Tee`]),
//! keeps a queue of images to prefetch, and stays within a limit ([`ImageCache::prune`], [`ImageCache::clean`]).
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
//! The map of the crate, from the bottom up; each layer knows only those before it:
//!
//! - `system`: thin wrappers of the operating system (directories by descriptor, locks, times, fork).
//! - `core`: the states of an image and the moves between them, written once. Only `core::layout` knows paths.
//! - `driver`: the metadata beside the files (hits, last use, totals, digests), in SQLite or in extended attributes.
//! - `ffi`: the C ABI. With a few wrappers in `system`, the only `unsafe` code.

#![deny(unsafe_code)]
#![warn(missing_docs)]
// What would end the host, or print into it.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod core;
mod driver;
mod error;
pub mod ffi;
mod system;

pub use crate::core::cache::{ImageCache, QueuedImage};
pub use crate::core::digest::Algorithm;
pub use crate::core::log::{Log, LogLevel};
pub use crate::core::options::{DriverChoice, Durability, Options};
pub use crate::core::prune::Pruned;
pub use crate::core::queue::Prefetched;
pub use crate::core::reader::Reader;
pub use crate::core::tee::Tee;
pub use crate::core::writer::Writer;
pub use crate::driver::{CachedImage, DriverKind, Listing};
pub use crate::error::{Error, Result};
