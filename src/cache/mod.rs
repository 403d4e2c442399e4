//! The states of an image and the moves between them. Knows the directory and the index; nothing here is C.
//!
//! `handle` is the public API, and validates ids; everything below it takes an `ImageId`. `inner` is the state behind all handles
//! of one cache. One file per verb: `publish`, `reader`, `prune`, ... Final names change in `name_change` only.

pub(crate) mod access;
pub(crate) mod bounds;
pub(crate) mod catalog;
pub(crate) mod clean;
mod copies;
pub(crate) mod counters;
pub(crate) mod eviction_order;
pub(crate) mod export;
mod freed;
pub(crate) mod handle;
mod holes;
pub(crate) mod import;
pub(crate) mod incomplete;
pub(crate) mod ingest;
pub(crate) mod inner;
pub(crate) mod inspection;
pub(crate) mod lifecycle;
pub(crate) mod name_change;
pub(crate) mod operator;
pub(crate) mod pin;
pub(crate) mod prefetch;
pub(crate) mod prune;
pub(crate) mod publish;
pub(crate) mod query;
pub(crate) mod queue;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod remove;
pub(crate) mod resized;
mod set_access;
pub(crate) mod statistics;
pub(crate) mod stream;
pub(crate) mod takeover;
pub(crate) mod tee;
pub(crate) mod unfinished;
pub(crate) mod verify;
pub(crate) mod victims;
pub(crate) mod wait;
pub(crate) mod writeback;
pub(crate) mod writer;
