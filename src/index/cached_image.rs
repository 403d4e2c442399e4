//! A cached image as a listing shows it.

/// A cached image as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedImage {
    /// Its id.
    pub image_id: String,
    /// Its length in bytes.
    pub size: u64,
    /// How often it was opened, read and closed.
    pub hits: u64,
    /// When it was last opened, or committed if it never was: nanoseconds since the Unix epoch.
    pub last_accessed: i64,
    /// When it was committed: nanoseconds since the Unix epoch.
    pub last_modified: i64,
    /// The digest at commit, as `algorithm:hex`: the strongest one that the caller expected, else a `crc64nvme` that was computed from
    /// the bytes received.
    pub digest: Option<String>,
    /// Until when it is pinned: nanoseconds since the Unix epoch. 0: not pinned, or this process may not read the pins. [`i64::MAX`]: for
    /// as long as a process lives, or beyond 2262.
    pub pinned_until: i64,
    /// What it takes up on the disk, in bytes: less than its length if it has holes, or is compressed. 0 if it vanished meanwhile.
    pub allocated: u64,
}
