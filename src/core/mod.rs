//! The states of an image and the moves between them. Knows files and locks, and of a driver only its trait.

pub(crate) mod cache;
pub(crate) mod clean;
pub(crate) mod delete;
pub(crate) mod digest;
pub(crate) mod hand_over;
pub(crate) mod hashing;
pub(crate) mod image_id;
pub(crate) mod incomplete;
pub(crate) mod layout;
pub(crate) mod log;
pub(crate) mod options;
pub(crate) mod pace;
pub(crate) mod prune;
pub(crate) mod queue;
pub(crate) mod reader;
pub(crate) mod shared;
pub(crate) mod tee;
pub(crate) mod unsynced;
pub(crate) mod writer;
