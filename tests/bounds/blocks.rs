//! What a cache takes up on the disk, as others see it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The blocks of all files of images, in bytes: of each directory, and those that were deleted but are still open.
pub fn allocated(cache: &Path) -> u64 {
    ["", "incomplete", "invalid", ".image_cache/deleted"].iter().map(|name| of_directory(&cache.join(name))).sum()
}

fn of_directory(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let files = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_index = entry.file_name().to_string_lossy().starts_with("cache.db");
        let stat = entry.metadata().ok()?;
        (stat.is_file() && !is_index).then(|| stat.blocks() * 512)
    });
    files.sum()
}
