//! Accesses in the future: the clock was set back since, or the file was copied or stamped with such a time. Without a correction the
//! image would be the last one to be evicted until then.
//!
//! Its file was stamped at its ctime, so that is when it was accessed last. If that lies in the future as well, the clock was
//! set back. The image was then not opened since: it counts as accessed when this handle was opened, so that images in use are
//! evicted later.

use std::time::{Duration, Instant};

use crate::log::Log;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::sys::file;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// A time that is less ahead counts as the present: clocks are adjusted in small steps.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The time after which an access lies in the future.
pub(super) fn bound() -> Timestamp {
    Timestamp::now().after(TOLERANCE)
}

/// When an image was accessed whose last access lies in the future. `stat` is its file's status, and `opened` when the handle was
/// opened.
pub(super) fn estimate(stat: Option<&FileStat>, opened: Instant) -> Timestamp {
    let now = Timestamp::now();
    match stat {
        Some(stat) if stat.changed <= bound() => stat.changed.min(now),
        _ => now.before(opened.elapsed()),
    }
}

/// Sets the atime of an image, if it lies in the future.
pub(super) fn correct_file(layout: &Layout, log: &Log, id: &ImageId, accessed: Timestamp) {
    if !layout.may_set_metadata() {
        return;
    }
    let corrected = layout.open_file(Area::Cached, id).and_then(|opened| match opened {
        Some((file, stat)) if stat.accessed > bound() => {
            file::set_accessed(&file, || layout.path(Area::Cached, id), accessed)
        }
        _ => Ok(()),
    });
    match corrected {
        // The next prune estimates it again.
        Err(error) if !error.is_not_permitted() && !error.is_leased() => log.warning(|| error.to_string()),
        _ => {}
    }
}
