//! Digests: hashing a stream of bytes, and comparing it with what the caller expects. Knows nothing of files.

pub(crate) mod algorithm;
pub(crate) mod channel;
pub(crate) mod expectations;
pub(crate) mod hasher;
mod md5;
pub(crate) mod state;
mod worker;
