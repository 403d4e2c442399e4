//! Thin wrappers of the operating system. They know nothing of images.

pub(crate) mod background;
pub(crate) mod directory;
pub(crate) mod flush;
pub(crate) mod generation;
pub(crate) mod inherited;
pub(crate) mod lock;
pub(crate) mod process_bound;
pub(crate) mod size_limit;
pub(crate) mod time;
pub(crate) mod write_back;
