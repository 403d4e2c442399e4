//! What holds when nothing is open: every image can be streamed and is cached then, and a clean leaves nothing of a stream.

use std::path::Path;
use std::time::Duration;

use image_cache::{Algorithm, DriverChoice, ImageCache, StreamRole};

use crate::checks::{self, CheckResult, check, context};
use crate::child::options;
use crate::images::{Image, images};
use crate::sources::Source;

/// While other handles are open, and idle.
pub fn check_idle(directory: &Path, driver: DriverChoice) -> CheckResult {
    let cache = context("open", ImageCache::open(directory, options(driver, false)))?;
    check_images(directory, &cache)?;
    for image in images() {
        stream(&cache, image)?;
    }
    check_images(directory, &cache)?;
    checks::check_clean(directory, &cache)?;
    let records = checks::file_names(&directory.join(".image_cache/streams"))?;
    checks::check(records.is_empty(), || format!("records of streams are left: {records:?}"))?;
    context("prune", cache.prune())?;
    check_images(directory, &cache)
}

/// After the last handle was closed.
pub fn check_closed(directory: &Path, driver: DriverChoice) -> CheckResult {
    let options = options(driver, false);
    let cache = context("open", ImageCache::open(directory, options.clone()))?;
    let listed = checks::check_listing(directory, &cache)?;
    drop(cache);
    checks::check_second_open(directory, &options, &listed)
}

/// Listing and files agree, and all bytes are right.
fn check_images(directory: &Path, cache: &ImageCache) -> CheckResult {
    for listed in checks::check_listing(directory, cache)? {
        let image = images().iter().find(|image| image.id == listed.image_id);
        let image = image.ok_or_else(|| format!("'{}' is listed, and nobody cached it", listed.image_id))?;
        let bytes = context(&listed.image_id, checks::read_without_atime(&directory.join(&listed.image_id)))?;
        check(bytes.len() as u64 == image.size, || format!("'{}' has {} bytes", image.id, bytes.len()))?;
        image.verify(0, &bytes)?;
        checks::check_image(&listed, &bytes)?;
    }
    Ok(())
}

/// Nobody else reads or writes the image, so the stream can cache it.
fn stream(cache: &ImageCache, image: &'static Image) -> CheckResult {
    let step = format!("the stream of '{}'", image.id);
    let mut stream = context(&step, cache.stream(&image.id, Source::good(image)))?;
    context(&step, stream.expect_size(image.size))?;
    context(&step, stream.expect_digest(Algorithm::Sha256, image.sha256()))?;
    context(&step, stream.set_source_timeout(Duration::from_secs(5)))?;
    let mut buffer = vec![0; 300_000];
    let mut position = 0;
    loop {
        let length = context(&step, stream.read(&mut buffer))?;
        check(stream.role() != StreamRole::Alone, || format!("{step} is alone at {position}"))?;
        image.verify(position, &buffer[..length])?;
        position += length as u64;
        if length == 0 {
            break;
        }
    }
    check(position == image.size, || format!("{step} ends after {position} bytes"))?;
    let is_cached = context("is_cached", cache.is_cached(&image.id))?;
    check(is_cached, || format!("'{}' is not cached after a stream", image.id))
}
