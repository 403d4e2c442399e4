//! Within its bounds: a hard limit for the directory, and a floor for the file system.
//!
//! # What counts
//!
//! The limit counts blocks on the disk, of all files of images: cached, being cached, invalid, and deleted but still open. The cached ones
//! are in the ledger (see `store::ledger`), the others are few, and are stat'ed. The floor counts what the file system has free.
//!
//! # Reservation
//!
//! Who writes reserves first: the whole image if its size is expected, else step by step. The reservation are blocks that are allocated
//! behind the end of the incomplete file. So all processes see it, and it ends with the file. All under the prune lock, which
//! excludes other reservations and evictions, in all processes:
//!
//! 1. Count what is used. Under the cache lock, so that no file is between two directories.
//! 2. If the blocks do not fit, make room: invalid files first, those of dead writers, and fetches that were abandoned long ago; then
//!    images, least recently accessed first; last, unfinished fetches that nobody takes part in. If that is not enough, no image is
//!    evicted, and the reservation fails: before the disk is touched.
//! 3. Allocate the blocks. What a file system takes for itself (extents, a block for attributes) is kept free for each file that is
//!    being cached; on a fragmented disk, blocks are allocated in pieces (see `allocate`).
//!
//! A process that dies in between leaves a dead writer's file, whose blocks count until it is removed. One that is stopped in between has
//! the prune lock: others wait for it, up to a limit, and then go on without caching.
//!
//! Nothing else adds blocks: a publish moves them, and frees those behind the end first. Other programs may add files. Then the next
//! reservation evicts for them, too.
//!
//! # Modes
//!
//! The limit is hard while the directory has a kept one (see `store::kept_limit`). A handle notices that as it begins a write. A writer
//! that began before goes on without reservations.

mod allocate;
mod garbage;
mod known_empty;
pub(crate) mod limit;
pub(crate) mod of_handle;
pub(crate) mod reserve;
pub(crate) mod usage;
