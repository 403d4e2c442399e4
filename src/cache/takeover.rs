//! Who gets an image's incomplete file: the first writer, or the next one after a dead or stalled one (see `incomplete`, steps 2 to 4).

use std::fs::File;
use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::query::is_cached;
use crate::error::{BeingCached, Error, Result};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::removal;
use crate::store::stream_record::StreamRecord;
use crate::store::writers::Writer;
use crate::sys::file;
use crate::sys::stat::{FileStat, StatAndBirth};
use crate::sys::time::Timestamp;

/// A live writer keeps its image at least this long, whatever the stall time: some file systems store mtimes in steps of 2 s.
const MIN_STALL: Duration = Duration::from_secs(2);

/// How often a name is tried when programs that ignore the cache lock put files there.
const ATTEMPTS: usize = 8;

/// Creates and locks the incomplete file. Replaces the file of a dead or stalled writer.
pub(super) fn create(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<(File, FileStat)> {
    let layout = cache.layout();
    let path = || layout.path(Area::Incomplete, id);
    for _ in 0..ATTEMPTS {
        if let Some(file) = layout.create_incomplete(lock, id)? {
            let stat = FileStat::of(&file, path)?;
            let written = StatAndBirth { stat, born: file::birth(&file) };
            if cache.lock.begin_writer(lock, &written)? {
                return Ok((file, stat));
            }
            // The lock of a dying writer whose inode number was reused. The next file has another number, or the lock is gone.
            removal::remove(layout, lock, Area::Incomplete, id)?;
            continue;
        }
        let Some(former) = layout.written(id)? else {
            match layout.stat(Area::Incomplete, id)? {
                DirEntry::Foreign => return Err(layout.occupied(Area::Incomplete, id)),
                _ => continue,
            }
        };
        let writer = writer_of(layout, lock, id, &former)?;
        if writer.has_the_image(min_stall(cache)) {
            return Err(being_cached(id, &writer));
        }
        match writer {
            Writer::Dead => {
                cache.log().info(|| format!("'{}' is a dead writer's, and is replaced", path().display()));
            }
            Writer::Stream { is_attended: false, .. } => {
                cache
                    .log()
                    .info(|| format!("'{}' is a stream's without participants, and is replaced", path().display()));
            }
            Writer::Live { idle, .. } | Writer::Unknown { idle } | Writer::Stream { idle, .. } => cache
                .log()
                .warning(|| format!("the writer of '{}' stalled for {idle:?}; it is replaced", path().display())),
        }
        removal::remove(layout, lock, Area::Incomplete, id)?;
        StreamRecord::remove(layout, lock, id)?;
    }
    Err(being_cached(id, &Writer::Dead))
}

/// How long a live writer keeps its image without writing.
pub(crate) fn min_stall(cache: &CacheInner) -> Duration {
    cache.stall_time.max(MIN_STALL)
}

fn being_cached(id: &ImageId, writer: &Writer) -> Error {
    let (process, since) = match writer {
        Writer::Live { process, since, .. } => (*process, since.map(Timestamp::as_nanoseconds)),
        Writer::Stream { process, since, .. } => (Some(*process), Some(since.as_nanoseconds())),
        Writer::Dead | Writer::Unknown { .. } => (None, None),
    };
    Error::BeingCached(BeingCached { image_id: id.to_string(), process, since })
}

/// Whether the image's incomplete file is a dead or stalled writer's, which the next writer replaces.
pub(crate) fn is_replaceable(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
    if is_cached(cache, id)? {
        return Ok(false);
    }
    let Some(file) = cache.layout().written(id)? else { return Ok(false) };
    Ok(!writer_of(cache.layout(), lock, id, &file)?.has_the_image(min_stall(cache)))
}
