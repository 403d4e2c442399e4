//! What an eviction is for, the images that it chose, and those that it leaves because somebody has them open.

use std::fmt;
use std::mem;
use std::thread;
use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::index::driver::Candidate;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::memory;
use crate::sys::stat::Removable;

/// What an eviction is for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Goal {
    /// The rest has at most so many bytes.
    pub limit: u64,
    /// The file system has so many bytes free.
    pub free: u64,
    /// So many bytes on the disk were freed.
    pub freed: u64,
    /// What counts for that is what the names in the directory take up, also if another name keeps the bytes.
    pub counts_names: bool,
    /// So many inodes were freed.
    pub inodes: u64,
    /// Nothing is evicted if that cannot be reached.
    pub is_all_or_nothing: bool,
}

/// A cached image that can be removed, with what its removal frees for a goal. `None` when it is not there.
pub(super) fn removable(cache: &CacheInner, id: &ImageId, goal: Goal) -> Result<Option<Removable>> {
    let file = cache.layout().check_removable(id)?;
    if goal.counts_names
        && let Some(Removable { size, allocated: 0 }) = file
        && let Some(stat) = cache.layout().stat(Area::Cached, id)?.image()
    {
        return Ok(Some(Removable { size, allocated: stat.allocated }));
    }
    Ok(file)
}

/// The waits before images in use are tried again. A listing has each image open for microseconds; a forked child has copies of all
/// descriptors until it calls exec, which takes milliseconds on a busy host.
const MOMENTS: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(16)];

/// An image that was chosen.
#[derive(Debug, Clone)]
pub(super) struct Victim {
    pub candidate: Candidate,
    /// What it takes up on the disk, in bytes.
    pub allocated: u64,
}

/// The victims that are in use.
#[derive(Debug, Default)]
pub(super) struct InUse {
    images: Vec<Victim>,
    bytes: u128,
    /// How often they were tried again.
    repeated: usize,
}

impl InUse {
    pub fn add(&mut self, victim: Victim) -> Result<()> {
        self.bytes += u128::from(victim.candidate.size);
        memory::push(&mut self.images, victim, "list the images in use")
    }

    pub fn is_any(&self) -> bool {
        !self.images.is_empty()
    }

    pub fn bytes(&self) -> u128 {
        self.bytes
    }

    /// Takes all, once, to try them again after a moment: they may have been open for a moment only. Waits, if there are any.
    pub fn repeat_once(&mut self) -> Vec<Victim> {
        if self.repeated == 0 { self.repeat() } else { Vec::new() }
    }

    /// The same, a few times, each after a longer wait: to be sure before room is refused.
    pub fn repeat(&mut self) -> Vec<Victim> {
        let (true, Some(moment)) = (self.is_any(), MOMENTS.get(self.repeated)) else { return Vec::new() };
        self.repeated += 1;
        thread::sleep(*moment);
        self.bytes = 0;
        mem::take(&mut self.images)
    }
}

impl fmt::Display for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} images of {} bytes are in use", self.images.len(), self.bytes)
    }
}
