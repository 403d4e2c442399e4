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
    /// The digest that was verified at commit, as `algorithm:hex`; the strongest one if there were several.
    pub digest: Option<String>,
}
