//! The caller's function that inspects an image before it is published.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

/// Inspects each image before it is published, after its size, digests and formats were checked. It can refuse the image.
///
/// The function gets the image's id, the file, which is open for reading only, and its length in bytes. An `Err` refuses the image, with a
/// reason: the caller of the commit gets [`crate::Error::Refused`], and the file goes to `invalid/`. A tee and a stream deliver all bytes
/// of their source, and do not cache the image.
///
/// It is called on the thread that commits the image, or reads a tee or a stream to its end, and on several threads at once for several
/// images. No lock of the cache is held, so it may take long, and may call the library. It must not wait for the same image: that is being
/// cached as long as the function runs. A panic of it goes through the call, and the image is not published.
#[derive(Clone)]
pub struct Inspector(Arc<Function>);

type Function = dyn Fn(&str, &File, u64) -> Result<(), String> + Send + Sync;

impl Inspector {
    /// Calls `function` with each image.
    pub fn new(function: impl Fn(&str, &File, u64) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(crate) fn inspect(&self, image_id: &str, file: &File, length: u64) -> Result<(), String> {
        (self.0)(image_id, file, length)
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Inspector(function)")
    }
}
