//! The SQLite driver: Glance's table, with an index on the order of access and totals kept by triggers, so that no operation's
//! cost grows with the number of images. Only this directory knows SQLite.
//!
//! The database is read and written under the cache lock only. So none of our own processes ever finds it busy, even when another
//! one was killed within a transaction and the next one recovers the log. SQLite's own busy handler starves writers: with four of
//! them, waits of more than a second were measured. A transaction that writes begins as IMMEDIATE: one that began by reading
//! could not wait for its turn.

mod changes;
mod connection;
mod database;
pub(crate) mod driver;
mod eviction;
pub(crate) mod files;
mod rebuild;
mod rows;
mod schema;
mod snapshot;
mod sql;
