//! One call of a verification: what its images share.

use std::ops::ControlFlow;

use crate::cache::inner::CacheInner;
use crate::cache::verify::pace::Pace;
use crate::log::LogOnce;
use crate::store::verified::LastVerified;
use crate::store::verify_lock::VerifyLocks;
use crate::sys::time::Timestamp;

/// The caller's function: the image's id, how many of its bytes are done, and how many it has.
pub(crate) type Progress<'a> = dyn FnMut(&str, u64, u64) -> ControlFlow<()> + 'a;

/// One call.
pub(super) struct Call<'a> {
    pub cache: &'a CacheInner,
    pub progress: &'a mut Progress<'a>,
    pub pace: Pace,
    pub bytes_read: u64,
    /// `None` without the permission to lock.
    pub locks: Option<VerifyLocks>,
    /// What was verified since then is skipped.
    pub since: Timestamp,
    /// Verifications that could not be recorded.
    pub unrecorded: LogOnce,
}

impl Call<'_> {
    /// Whether the image is skipped.
    pub fn is_done(&self, last: &LastVerified) -> bool {
        last.is_since(self.since)
    }
}
