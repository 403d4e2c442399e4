//! A hard limit on a disk whose free space is fragmented: the extents of an image take up blocks, too.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, NO_SPACE, Settings, status_of};
use crate::machine::{Need, Volume, trials};

const LIMIT: u64 = 16 << 20;
/// So many small files are removed, each of one block.
const GAPS: usize = 12_000;

pub fn trials_of_kind() -> Vec<Trial> {
    let ext4 = trials("fragmented::ext4", &[Need::Volume("ext4")], |driver| {
        stays_within("ext4", 200, &["-b", "4096", "-N", "40000"], driver)
    });
    let xfs = trials("fragmented::xfs", &[Need::Volume("xfs")], |driver| stays_within("xfs", 300, &[], driver));
    [ext4, xfs].into_iter().flatten().collect()
}

fn stays_within(kind: &str, megabytes: u64, options: &[&str], driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new(kind, megabytes, options)?;
    fragment(&volume);
    let directory = volume.join("cache");
    let cache = Cache::open(&directory, Settings::new(driver).max_size(LIMIT).hard()).unwrap();
    let chunk = vec![7; 100_000];
    for number in 0..3 {
        publishes_without_reserve(&cache, &directory)?;
        let mut writer = cache.begin_write(&number.to_string()).unwrap();
        // Until it does not fit any more.
        let failure = loop {
            match writer.write_chunk(&chunk) {
                Ok(()) => check(&directory)?,
                Err(failure) => break failure,
            }
        };
        check(&directory)?;
        if failure.status != NO_SPACE {
            return Err(failure.to_string().into());
        }
        writer.abort("for the test");
        // Without its extents, this would fit.
        let mut writer = cache.begin_write("too large").unwrap();
        let status = status_of(&writer.expect_size(LIMIT - (16 << 10)));
        check(&directory)?;
        assert!([0, NO_SPACE].contains(&status), "{status}");
        writer.abort("for the test");
        let mut writer = cache.begin_write("whole").unwrap();
        let fits = LIMIT - (256 << 10);
        writer.expect_size(fits).map_err(|failure| failure.to_string())?;
        check(&directory)?;
        for _ in 0..fits / chunk.len() as u64 {
            writer.write_chunk(&chunk).unwrap();
        }
        volume.sync();
        check(&directory)?;
        writer.abort("for the test");
    }
    Ok(())
}

/// The last step is one that the limit has room for, but not with its extents, so it is allocated in part.
fn publishes_without_reserve(cache: &Cache, directory: &Path) -> Result<(), Failed> {
    // The steps end at 1, 4, 10, 22, 46 and 94 chunks.
    const CHUNK: u64 = (LIMIT - (20 << 10)) / 94;
    const CHUNKS: u64 = 47;
    cache.clean(0).map_err(|failure| failure.to_string())?;
    let chunk = vec![7; usize::try_from(CHUNK).unwrap()];
    let mut writer = cache.begin_write("half").unwrap();
    for _ in 0..CHUNKS {
        writer.write_chunk(&chunk).map_err(|failure| failure.to_string())?;
        check(directory)?;
    }
    writer.commit().map_err(|failure| failure.to_string())?;
    let (length, allocated) = (CHUNKS * CHUNK, fs::metadata(directory.join("half"))?.blocks() * 512);
    cache.delete("half").map_err(|failure| failure.to_string())?;
    if allocated > length + (length >> 4) {
        return Err(format!("an image of {length} bytes takes up {allocated}").into());
    }
    Ok(())
}

/// Leaves gaps of one block only.
fn fragment(volume: &Volume) {
    let directory = volume.join("small");
    fs::create_dir(&directory).unwrap();
    let path = |number: usize| directory.join(number.to_string());
    for number in 0..2 * GAPS {
        fs::write(path(number), [1; 4096]).unwrap();
    }
    volume.sync();
    crate::machine::fill(&volume.join("rest"));
    for number in 0..GAPS {
        fs::remove_file(path(2 * number)).unwrap();
    }
    volume.sync();
}

fn check(directory: &Path) -> Result<(), Failed> {
    let files = ["", "incomplete", "invalid"].iter().flat_map(|name| fs::read_dir(directory.join(name)).unwrap());
    let sizes = files.filter_map(|entry| {
        let entry = entry.unwrap();
        let stat = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        (!entry.file_name().to_string_lossy().starts_with("cache.db")).then(|| stat.blocks() * 512)
    });
    match sizes.sum::<u64>() {
        total if total > LIMIT => Err(format!("{total} bytes are taken up, {} above the limit", total - LIMIT).into()),
        _ => Ok(()),
    }
}
