//! The SQLite driver: Glance's table, with an index on the order of access and totals kept by triggers, so that no operation's
//! cost grows with the number of images. Only this directory knows SQLite.
//!
//! The database is read and written under the cache lock only. So none of our own processes ever finds it locked, even when another
//! one was killed within a transaction and the next one rolls it back. It needs no concurrency of its own: it has a rollback
//! journal, which stays (`journal_mode = PERSIST`), so that no transaction changes the directory's names. Nothing is synced:
//! after a power cut the index is checked, and compared with the directory.
//!
//! Another program's lock on the database is never waited for, since the cache lock is held. The call fails, and its caller can
//! repeat it later ([`Error::is_index_locked`](crate::error::Error::is_index_locked)).

mod changes;
mod compare;
mod comparison;
mod connection;
mod database;
pub(crate) mod driver;
mod eviction;
mod examination;
pub(crate) mod files;
mod list;
mod rows;
mod schema;
mod sql;
mod version;
mod vfs;
