//! The C ABI: `include/image_cache.h` is generated from here, and the documentation of each function is written here.
//!
//! One module per object of the header. An exported function is one expression: arguments are parsed by `argument`, the
//! safe API is called, and `call` turns its result into a status, with the one guard for panics around it all.
//!
//! # Documentation
//!
//! Each function's has the same parts, in this order: what it does; the parameters; "Returns IMAGE_CACHE_OK, or" (or "Returns
//! as" another function) and each error on a line of its own, with when it is returned, which tests/c/statuses.c reads and
//! compares with what is returned; what remains to be said; "Durability:", where there is something to keep; "Threads:",
//! "Blocks:" and "Since"; an example.
//!
//! # Cancellation
//!
//! No call is a cancellation point, and neither are the caller's functions that it calls: a thread that is cancelled there would
//! unwind through the library, which aborts the process.
//!
//! # Safety
//!
//! For every function: a pointer is NULL, or valid for what the function does with it for the length of the call; a handle
//! is NULL, or was returned by this library and not ended yet; text is NUL-terminated. NULL where it is not allowed gives
//! a status. These are the only conditions that a caller must keep, so the functions do not repeat them.

#![allow(unsafe_code, reason = "the C ABI is raw pointers")]
#![allow(non_camel_case_types, reason = "the names of the header")]
#![allow(clippy::missing_safety_doc, reason = "said once, above")]
#![allow(clippy::doc_markdown, reason = "the documentation is the header's")]

mod argument;
mod call;
mod guard;
mod handle;
mod out;

// In the order of the header: the blank lines keep the formatter from sorting them.
pub mod version;

pub mod status;

pub mod options;

pub mod cache;

pub mod list;

pub mod writer;

pub mod reader;

pub mod tee;

pub mod queue;

pub mod maintenance;
