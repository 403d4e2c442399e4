//! `agent CACHE_DIR`: caches, reads, tees, lists and prunes, with the crate's safe API.

use std::error::Error;
use std::io::{self, Read as _, Write};
use std::path::Path;

use image_cache::{ImageCache, Options};

/// Runs the example, and prints to `out`.
///
/// # Errors
/// Failures of the cache, and of `out`.
pub fn run(directory: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let cache = ImageCache::open(directory, Options::new().max_size(15))?;

    let mut writer = cache.begin_write("cirros")?;
    writer.expect_size(10)?;
    writer.write_chunk(b"0123456789")?; // `?` drops the writer, which aborts it
    writer.commit()?;
    writeln!(out, "cached cirros: 10 bytes")?;

    let mut text = String::new();
    cache.open_for_read("cirros")?.read_to_string(&mut text)?;
    writeln!(out, "read cirros: {text}")?;

    // Any `Read` is a source.
    let mut tee = cache.tee("fedora", &b"teateatea"[..])?;
    let mut bytes = Vec::new();
    io::copy(&mut tee, &mut bytes)?;
    let cached = if tee.is_caching() { "cached" } else { "not cached" };
    writeln!(out, "tee fedora: {}, {cached}", String::from_utf8_lossy(&bytes))?;

    for image in cache.list_cached()? {
        writeln!(out, "listed {}: {} bytes, hits: {}", image.image_id, image.size, image.hits)?;
    }
    let pruned = cache.prune()?;
    writeln!(out, "pruned: {} image, {} bytes", pruned.images, pruned.bytes)?;
    Ok(())
}

#[allow(dead_code, reason = "a test calls run")]
fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: agent CACHE_DIR")?;
    run(Path::new(&directory), &mut io::stdout())
}
