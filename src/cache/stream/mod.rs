//! Reads an image that may still have to be fetched, together with all others that want it.
//!
//! `handle` is the public API, `state` its reads and `steps` what each of them does; `join` begins, `fetch` is the protocol between
//! processes, `conclude` its end, `hash` its verification. A `room` has the streams of one handle, `waiting` their wait, `follow` the file of a writer that
//! they follow; `lost` ends a fetch whose bytes may be lost.

pub(crate) mod conclude;
mod delivered;
pub(crate) mod fetch;
pub(crate) mod follow;
pub(crate) mod handle;
mod hash;
pub(crate) mod join;
pub(crate) mod lost;
pub(crate) mod room;
pub(crate) mod shared;
pub(crate) mod source;
mod state;
mod steps;
pub(crate) mod waiting;
