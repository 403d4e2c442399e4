//! The operating system: thin wrappers of its calls, relative to descriptors. Knows nothing of images.
//!
//! Every system call of the crate is made in here, and so are its signal masks, threads and clocks. `EINTR` is handled here
//! only: calls that can be interrupted are repeated (`retry_on_intr`).

pub(crate) mod at_fork;
pub(crate) mod attribute;
pub(crate) mod boot;
pub(crate) mod copy;
pub(crate) mod descriptors;
pub(crate) mod dir;
pub(crate) mod dir_state;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod fork_guard;
pub(crate) mod lease;
pub(crate) mod leased;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod mount;
mod names;
pub(crate) mod open_registry;
pub(crate) mod private;
pub(crate) mod process_life;
pub(crate) mod signals;
pub(crate) mod stat;
pub(crate) mod thread;
pub(crate) mod time;
pub(crate) mod uncached;
pub(crate) mod writeback;
