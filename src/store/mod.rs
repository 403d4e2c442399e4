//! The cache's directory: names, moves, locks, marks and the stamp. Knows files, and nothing of the index or of writers.
//!
//! Only `layout` knows paths.

pub(crate) mod attributes;
pub(crate) mod image_id;
pub(crate) mod incomplete_writer;
pub(crate) mod layout;
pub(crate) mod lock;
mod lock_file;
pub(crate) mod own_files;
mod recognise;
pub(crate) mod stamp;
pub(crate) mod stream_facts;
mod stream_hash;
pub(crate) mod stream_record;
pub(crate) mod unsynced;
mod unsynced_mark;
pub(crate) mod writers;
