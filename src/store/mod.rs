//! The cache's directory: names, moves, locks, marks and the stamp. Knows files, and nothing of the index or of writers.
//!
//! Only `layout` knows paths.

pub(crate) mod attributes;
mod checksum;
pub(crate) mod committed;
pub(crate) mod dir_entry;
pub(crate) mod floor;
pub(crate) mod identity;
pub(crate) mod image_id;
pub(crate) mod in_use;
pub(crate) mod incomplete_writer;
pub(crate) mod kept_limit;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod lock;
mod lock_file;
pub(crate) mod own_files;
pub(crate) mod pin_record;
pub(crate) mod pins;
mod recognise;
pub(crate) mod removal;
pub(crate) mod stamp;
pub(crate) mod statistics_file;
pub(crate) mod stream_facts;
mod stream_hash;
pub(crate) mod stream_record;
pub(crate) mod unsynced;
mod unsynced_mark;
pub(crate) mod verified;
pub(crate) mod verify_lock;
pub(crate) mod writers;
