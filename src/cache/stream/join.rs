//! How a stream begins: what it finds of its image, and what it becomes.
//!
//! All under the cache lock, so that neither a writer nor another stream begins in between.
//!
//! 1. The image is cached: the stream reads it.
//! 2. A stream of this handle fetches it: the room is shared.
//! 3. `incomplete/<id>` has a record: the stream takes part. If nobody else does, it resumes the fetch. The file's bytes are valid within one
//!    boot and mount; after a restart, as many of them as were synced. The rest is cut off. Expectations of the former participants are
//!    dropped, unless they were verified and do not contradict this one's; a file that is longer than expected is replaced.
//! 4. A live writer has the image: the stream follows its file.
//! 5. A writer died whose file the stream has followed: the file gets a record, and the fetch goes on there.
//! 6. Else the stream creates the file, closes it to those who may only read, and creates its record. A process killed in between leaves
//!    a file without a record, which is a dead writer's, or a record without a file, which the next one replaces.

use std::fs::File;
use std::sync::Arc;

use crate::cache::inner::CacheInner;
use crate::cache::name_change::NameChange;
use crate::cache::query::is_torn;
use crate::cache::resized::withdraw_resized;
use crate::cache::stream::fetch::contradicts;
use crate::cache::stream::follow::FollowedFile;
use crate::cache::stream::room::{Room, Work};
use crate::cache::takeover::min_stall;
use crate::cache::writeback::Writeback;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::removal;
use crate::store::stream_facts::{Facts, Verdict};
use crate::store::stream_record::StreamRecord;
use crate::sys::file;
use crate::sys::stat::{FileId, FileStat, STICKY, StatAndBirth};

/// What a stream reads from.
pub(crate) enum Joined {
    Cached,
    Room(Arc<Room>),
    Followed(Arc<FollowedFile>),
}

/// Finds the image, or begins to fetch it. `own`: what this stream expects. `followed`: the file of a writer from which this stream has
/// read. Fails when the image cannot be cached.
pub(crate) fn join(cache: &CacheInner, id: &ImageId, own: &Expectations, followed: Option<FileId>) -> Result<Joined> {
    let lock = cache.lock.acquire()?;
    match cache.layout().stat(Area::Cached, id)? {
        DirEntry::Missing => {}
        DirEntry::Image(_) if is_torn(cache, id)? => NameChange::begin(&cache.catalog, &lock)?.drop_torn(id)?,
        DirEntry::Image(stat) if withdraw_resized(cache, &lock, id, &stat)? => {}
        DirEntry::Image(_) => return Ok(Joined::Cached),
        DirEntry::Foreign => return Err(cache.layout().occupied(Area::Cached, id)),
    }
    cache.hard_limit(&lock)?;
    let Some(present) = cache.layout().written(id)? else {
        if !matches!(cache.layout().stat(Area::Incomplete, id)?, DirEntry::Missing) {
            return Err(cache.layout().occupied(Area::Incomplete, id));
        }
        return create(cache, &lock, id).map(Joined::Room);
    };
    if let Some(room) = cache.streams.rooms.find(id)
        && room.file_id == present.stat.id
        && room.facts().is_ok_and(|facts| facts.verdict.is_none_or(|verdict| verdict == Verdict::Right))
    {
        return Ok(Joined::Room(room));
    }
    if let Some((record, facts)) = StreamRecord::open(cache.layout(), id, &present)? {
        if matches!(facts.verdict, Some(Verdict::Wrong(..))) {
            // Its participants need its name no more. The one who found it wrong would do the same now, or has died.
            let moved = removal::invalidate(cache.layout(), &lock, Area::Incomplete, id);
            moved.or_else(|_| removal::remove(cache.layout(), &lock, Area::Incomplete, id).map(drop))?;
            return create(cache, &lock, id).map(Joined::Room);
        }
        if let Some(room) = take_part(cache, &lock, id, own, &present, record, facts)? {
            return Ok(Joined::Room(room));
        }
    }
    let writer = writer_of(cache.layout(), &lock, id, &present)?;
    if writer.has_the_image(min_stall(cache)) {
        return follow(cache, id, &present).map(Joined::Followed);
    }
    if followed == Some(present.stat.id)
        && let Some(file) = cache.layout().open_incomplete(id)?
    {
        return begin_record(cache, &lock, id, file).map(Joined::Room);
    }
    removal::remove(cache.layout(), &lock, Area::Incomplete, id)?;
    create(cache, &lock, id).map(Joined::Room)
}

/// `None` when the file cannot be continued, and is replaced.
fn take_part(
    cache: &CacheInner,
    lock: &CacheLockGuard<'_>,
    id: &ImageId,
    own: &Expectations,
    present: &StatAndBirth,
    record: StreamRecord,
    mut facts: Facts,
) -> Result<Option<Arc<Room>>> {
    let Some(file) = cache.layout().open_incomplete(id)? else { return Ok(None) };
    if !record.is_attended()? {
        if own.size().is_some_and(|expected| expected < present.stat.size) {
            return Ok(None);
        }
        if facts.verdict.is_none() || contradicts(&facts, own) {
            // Nobody expects that any more.
            facts.size = None;
            facts.digests.clear();
        }
        if contradicts(&facts, own) {
            (facts.length, facts.verdict) = (None, None);
        }
        let resumed = resume(cache, id, present.stat.size, &record, &mut facts, &file);
        // Lost bytes that are reported to this descriptor only.
        if resumed.is_err() && file::flush_by_closing(&file, || cache.layout().path(Area::Incomplete, id)).is_err() {
            removal::remove(cache.layout(), lock, Area::Incomplete, id)?;
        }
        resumed?;
    }
    enter(cache, id, record, file, present.stat.id, facts.synced).map(Some)
}

/// Goes on with a fetch that nobody takes part in.
fn resume(
    cache: &CacheInner,
    id: &ImageId,
    size: u64,
    record: &StreamRecord,
    facts: &mut Facts,
    file: &File,
) -> Result<()> {
    let valid = facts.valid(cache.layout(), size);
    // The end that was found is valid only with all bytes.
    if valid < size || facts.length.is_some_and(|length| length != size) {
        facts.length = None;
        facts.verdict = None;
        file::set_length(file, || cache.layout().path(Area::Incomplete, id), valid)?;
    }
    // After a restart, the bytes on the disk count. Another program may have shortened the file.
    if valid < size || !facts.is_of_present_place(cache.layout()) || record.hashed()? > valid {
        record.forget_hash()?;
    }
    facts.synced = facts.synced.min(valid);
    facts.resume(cache.layout());
    record.set(facts)?;
    cache.log().info(|| format!("image '{id}': its fetch is resumed at {valid} bytes"));
    Ok(())
}

fn follow(cache: &CacheInner, id: &ImageId, present: &StatAndBirth) -> Result<Arc<FollowedFile>> {
    if let Some(followed) = cache.streams.followed.find(id)
        && followed.file_id == present.stat.id
    {
        return Ok(followed);
    }
    let Some((file, stat)) = cache.layout().open_file(Area::Incomplete, id)? else {
        return Err(Error::Lost { image_id: id.to_string(), why: "its writer's file has gone" });
    };
    let path = cache.layout().path(Area::Incomplete, id);
    Ok(cache.streams.followed.insert(id, FollowedFile::new(file, stat.id, path)))
}

fn create(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<Arc<Room>> {
    let layout = cache.layout();
    let created = layout.create_incomplete(lock, id)?;
    let file = created.ok_or_else(|| layout.occupied(Area::Incomplete, id))?;
    begin_record(cache, lock, id, file).inspect_err(|_| {
        // If this fails, it is a dead writer's file.
        let _ = removal::remove(layout, lock, Area::Incomplete, id);
    })
}

/// Creates the record of a file that this stream created or took over.
fn begin_record(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId, file: File) -> Result<Arc<Room>> {
    let path = || cache.layout().path(Area::Incomplete, id);
    let stat = FileStat::of(&file, path)?;
    let mode = stat.permissions & 0o777;
    file::set_mode(&file, path, STICKY | private(mode))?;
    let facts = Facts::new(cache.layout(), &StatAndBirth { stat, born: file::birth(&file) }, mode);
    let record = StreamRecord::create(cache.layout(), lock, id, &facts)?;
    enter(cache, id, record, file, stat.id, 0)
}

/// The mode that keeps out who may read, but not write.
fn private(mode: u32) -> u32 {
    if mode & 0o020 == 0 { mode & 0o600 } else { mode & 0o660 }
}

fn enter(
    cache: &CacheInner,
    id: &ImageId,
    record: StreamRecord,
    file: File,
    file_id: FileId,
    synced: u64,
) -> Result<Arc<Room>> {
    record.participate()?;
    // Other participants read the pages, so streaming does not drop them.
    let writeback = Writeback::new(cache.durability, false);
    let work = Work { hash: None, writeback, synced };
    let path = cache.layout().path(Area::Incomplete, id);
    let room = Room::new(id.clone(), record, file, file_id, path, work)?;
    Ok(cache.streams.rooms.insert(id, room))
}
