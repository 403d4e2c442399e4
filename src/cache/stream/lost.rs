//! Files whose bytes the kernel may have lost: nobody may publish them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cache::counters::Counter;
use crate::cache::inner::CacheInner;
use crate::cache::remove::withdraw;
use crate::cache::stream::room::Room;
use crate::error::{Error, Result};
use crate::store::attributes;
use crate::store::dir_entry::DirEntry;
use crate::store::layout::Area;
use crate::store::removal;
use crate::store::stream_record::StreamRecord;
use crate::sys::file;

/// How long the append lock is waited for before a record is spoiled.
const TO_SPOIL: Duration = Duration::from_secs(1);

/// Moves the file to `invalid/`. Its participants go on alone.
pub(crate) fn abandon(cache: &CacheInner, room: &Room, cause: &Error) {
    cache.log().warning(|| format!("image '{}' is not cached: {cause}", room.id));
    attributes::record_failure(&room.file, &cause.to_string());
    let moved = cache.lock.acquire().and_then(|lock| {
        if room.check_name(cache.layout()).is_err() {
            return Ok(false);
        }
        removal::invalidate(cache.layout(), &lock, Area::Incomplete, &room.id).or_else(|error| {
            cache.log().warning(|| error.to_string());
            // A removed file is better than one that another process publishes.
            removal::remove(cache.layout(), &lock, Area::Incomplete, &room.id).map(drop)
        })?;
        StreamRecord::remove(cache.layout(), &lock, &room.id)?;
        Ok(true)
    });
    match moved {
        Ok(true) => cache.counters().add(Counter::of_failure(cause), 1),
        // Another participant may have been faster.
        Ok(false) => {
            let published = cache.layout().stat(Area::Cached, &room.id).ok().and_then(DirEntry::image);
            if published.is_some_and(|stat| stat.id == room.file_id) {
                withdraw(cache, &room.id, &room.file, cause);
            }
        }
        Err(error) => {
            cache.log().warning(|| error.to_string());
            let _lock = room.lock_append(TO_SPOIL);
            spoil(cache, room);
        }
    }
    room.waiters.announce();
}

/// Makes the file a dead writer's, which nobody goes on with. Who takes part goes on alone. Under the append lock, if it is to be had.
pub(crate) fn spoil(cache: &CacheInner, room: &Room) {
    if let Err(error) = room.record.spoil() {
        cache.log().error(|| error.to_string());
    }
}

/// A stream leaves a fetch that may go on without it. Some file systems report lost bytes only at a close, and only once: nobody may
/// publish them.
pub(crate) fn leave(cache: &CacheInner, room: &Arc<Room>) {
    if room.look().is_ok_and(|look| look.length == 0) {
        // Where this fails, the next stream or writer takes the file over.
        let _ = remove_unattended(cache, room, 0);
        return;
    }
    let flushed = file::flush_by_closing(&room.file, || room.path()).and_then(|is_flushed| {
        // Without a descriptor for the duplicate, a sync reports lost bytes.
        if is_flushed { Ok(()) } else { file::sync_data(&room.file, || room.path()) }
    });
    let left = flushed.map_err(|error| abandon(cache, room, &error));
    if left.is_ok()
        && let Err(error) = release_reserve(cache, room)
    {
        cache.log().warning(|| error.to_string());
    }
}

/// Frees what was reserved for a fetch that nobody takes part in any more. Who resumes it reserves again.
fn release_reserve(cache: &CacheInner, room: &Arc<Room>) -> Result<()> {
    if !cache.bounds.are_set() {
        return Ok(());
    }
    let lock = cache.lock.acquire()?;
    if is_left(room)? && room.check_name(cache.layout()).is_ok() {
        let length = room.look()?.length;
        file::set_length(&room.file, || room.path(), length)?;
        room.reserved.store(length, Ordering::Relaxed);
    }
    drop(lock);
    Ok(())
}

/// Whether the stream that leaves is the last one. Others join under the cache lock.
fn is_left(room: &Arc<Room>) -> Result<bool> {
    Ok(Arc::strong_count(room) == 1 && !room.record.is_attended()?)
}

/// A stream leaves a fetch for which the disk has no room. Without other participants, the bytes are of no use: they take up room that
/// others need.
pub(crate) fn leave_full_disk(cache: &CacheInner, room: &Arc<Room>) {
    if let Err(error) = remove_unattended(cache, room, u64::MAX) {
        cache.log().warning(|| error.to_string());
    }
    leave(cache, room);
}

/// Removes a file of at most so many bytes, if nobody else fetches it: its image would look as if it were being cached.
fn remove_unattended(cache: &CacheInner, room: &Arc<Room>, longest: u64) -> Result<()> {
    let lock = cache.lock.acquire()?;
    if is_left(room)? && room.look()?.length <= longest && room.check_name(cache.layout()).is_ok() {
        removal::remove_own(cache.layout(), &lock, &room.id, &room.file)?;
        StreamRecord::remove(cache.layout(), &lock, &room.id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::lifecycle;
    use crate::cache::stream::conclude::conclude;
    use crate::cache::stream::fetch::{Appended, append, note_end};
    use crate::cache::stream::join::{Joined, join};
    use crate::digest::expectations::Expectations;
    use crate::options::Options;
    use crate::store::image_id::ImageId;

    fn begun(scratch: &std::path::Path) -> (Arc<CacheInner>, ImageId, Arc<Room>) {
        let cache = Arc::new(lifecycle::open(&scratch.join("cache"), Options::default()).unwrap());
        let id = cache.layout().image_id("1").unwrap();
        let room = joined(&cache, &id);
        let appended = append(&cache, &room, 0, b"lost", Duration::from_secs(1)).unwrap();
        assert_eq!(appended, Appended::Kept);
        (cache, id, room)
    }

    fn joined(cache: &CacheInner, id: &ImageId) -> Arc<Room> {
        match join(cache, id, &Expectations::default(), None).unwrap() {
            Joined::Room(room) => room,
            _ => panic!("the image has no room"),
        }
    }

    fn lost_bytes(room: &Room) -> Error {
        Error::system("close", &room.path(), rustix::io::Errno::IO)
    }

    #[test]
    fn an_image_whose_bytes_a_participant_lost_is_withdrawn_if_another_one_published_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (cache, id, room) = begun(scratch.path());
        note_end(&cache, &room, 4, Duration::from_secs(1)).unwrap();
        conclude(&cache, &room).unwrap().unwrap().unwrap();
        assert!(cache.layout().has(Area::Cached, &id).unwrap());
        abandon(&cache, &room, &lost_bytes(&room));
        assert!(!cache.layout().has(Area::Cached, &id).unwrap());
    }

    #[test]
    fn lost_bytes_that_could_not_be_moved_are_not_published() {
        let scratch = tempfile::tempdir().unwrap();
        let (cache, id, room) = begun(scratch.path());
        spoil(&cache, &room);
        assert!(note_end(&cache, &room, 4, Duration::from_secs(1)).is_err() && conclude(&cache, &room).is_err());
        // The room is in use, and its file is replaced all the same.
        assert_eq!(joined(&cache, &id).look().unwrap().length, 0);
    }
}
