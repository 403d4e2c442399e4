//! Images that are not cached: those that are being cached, and those whose fetch has failed.

use std::fmt;

use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::writers::Writer;
use crate::sys::memory;
use crate::sys::time::Timestamp;

/// Who has an incomplete image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A live writer or tee.
    Writer,
    /// Streams that fetch it.
    Streams,
    /// Nobody. The next stream resumes the fetch.
    Resumable,
    /// Nobody: its writer has died.
    DeadWriter,
    /// Unknown. As a rule another program has created the file.
    OtherProgram,
}

impl Holder {
    pub(crate) fn of(writer: &Writer) -> Self {
        match writer {
            Writer::Live { .. } => Self::Writer,
            Writer::Stream { is_attended: true, .. } => Self::Streams,
            Writer::Stream { .. } => Self::Resumable,
            Writer::Dead => Self::DeadWriter,
            Writer::Unknown { .. } => Self::OtherProgram,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Writer => "a writer has it",
            Self::Streams => "streams fetch it",
            Self::Resumable => "its fetch was left, and the next stream resumes it",
            Self::DeadWriter => "its writer has died",
            Self::OtherProgram => "another program has it, or it is unknown who has",
        })
    }
}

/// An image that is being cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncompleteImage {
    /// Its id.
    pub image_id: String,
    /// How many bytes are there.
    pub size: u64,
    /// What they take up on the disk, with what is reserved for more, in bytes.
    pub allocated: u64,
    /// Who has it.
    pub holder: Holder,
    /// The process of the writer, or of the stream that fetched last; `None` if nobody has it, or unknown.
    pub process: Option<u32>,
    /// When the writing or the fetch began: nanoseconds since the Unix epoch; `None` if unknown.
    pub since: Option<i64>,
    /// When it was last written to: nanoseconds since the Unix epoch.
    pub last_modified: i64,
}

/// An image whose fetch has failed. It is kept until the next clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidImage {
    /// Its id.
    pub image_id: String,
    /// How many bytes are there.
    pub size: u64,
    /// What they take up on the disk, in bytes.
    pub allocated: u64,
    /// Why it failed; `None` if that is unknown.
    pub reason: Option<String>,
    /// When it was last written to: nanoseconds since the Unix epoch.
    pub last_modified: i64,
}

/// The images that are being cached, by id.
pub(crate) fn list_incomplete(cache: &CacheInner) -> Result<Vec<IncompleteImage>> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut images = Vec::new();
    for (id, _) in cache.layout().images(Area::Incomplete)? {
        if let Some(image) = skipped.note_unless_timed_out(incomplete_image(cache, &id))?.flatten() {
            memory::push(&mut images, image, "list the incomplete images")?;
        }
    }
    images.sort_unstable_by(|one, other| one.image_id.cmp(&other.image_id));
    Ok(images)
}

fn incomplete_image(cache: &CacheInner, id: &ImageId) -> Result<Option<IncompleteImage>> {
    let lock = cache.lock.acquire_to_query()?;
    let Some(file) = cache.layout().written(id)? else { return Ok(None) };
    let writer = writer_of(cache.layout(), &lock, id, &file)?;
    let (process, since) = match writer {
        Writer::Live { process, since, .. } => (process, since),
        Writer::Stream { is_attended, process, since, .. } => (is_attended.then_some(process), Some(since)),
        Writer::Dead | Writer::Unknown { .. } => (None, None),
    };
    Ok(Some(IncompleteImage {
        image_id: id.to_string(),
        size: file.stat.size,
        allocated: file.stat.allocated,
        holder: Holder::of(&writer),
        process,
        since: since.map(Timestamp::as_nanoseconds),
        last_modified: file.stat.modified.as_nanoseconds(),
    }))
}

/// The images whose fetch has failed, by id.
pub(crate) fn list_invalid(cache: &CacheInner) -> Result<Vec<InvalidImage>> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut images = Vec::new();
    for (id, stat) in cache.layout().images(Area::Invalid)? {
        let Some(stat) = skipped.note(stat) else { continue };
        // A reason that cannot be read is unknown.
        let opened = skipped.note(cache.layout().open_file(Area::Invalid, &id)).flatten();
        let reason = opened.and_then(|(file, _)| attributes::get(file, Attribute::Failure).ok().flatten());
        let last_modified = stat.modified.as_nanoseconds();
        let (size, allocated) = (stat.size, stat.allocated);
        let image = InvalidImage { image_id: id.to_string(), size, allocated, reason, last_modified };
        memory::push(&mut images, image, "list the invalid images")?;
    }
    images.sort_unstable_by(|one, other| one.image_id.cmp(&other.image_id));
    Ok(images)
}
