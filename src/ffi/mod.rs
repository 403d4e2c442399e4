//! The C ABI. `include/image_cache.h` is generated from here, including the documentation of each function.
//!
//! One module per object of the header. An exported function is one expression: `argument` parses the arguments, the
//! safe API does the work, and `call` converts the result into a status. One panic guard is around all of it.
//!
//! # Documentation
//!
//! It is Markdown, from which the header, these pages, the reference and the manual pages are made (`tools/manual`). The
//! documentation of each function has these parts, in this order:
//!
//! 1. What the function does, in one line.
//! 2. A list of the parameters, except `error`.
//! 3. "Returns IMAGE_CACHE_OK, or" (or "Returns as" another function), then a list of the errors with their conditions.
//!    tests/c/statuses.c parses this part and compares it with the statuses that are returned.
//! 4. Details.
//! 5. "Durability:", if it matters; "Threads:" and "Blocks:".
//! 6. An example.
//!
//! What holds for all functions is said once, at the beginning of the header: see `cbindgen.toml`.
//!
//! # Cancellation
//!
//! No call is a cancellation point, and neither are the caller's functions that it calls. A thread that is cancelled
//! there would unwind through the library, which aborts the process.
//!
//! # Safety
//!
//! For every function: a pointer is NULL, or valid for the function's use of it during the call. A handle is NULL, or
//! this library returned it and it has not ended. Text is NUL-terminated. A NULL that is not allowed gives a status.
//! Callers have no other obligations, so the functions do not repeat these.

#![allow(unsafe_code, reason = "the C ABI is raw pointers")]
#![allow(non_camel_case_types, reason = "the names of the header")]
#![allow(clippy::missing_safety_doc, reason = "said once, above")]
#![allow(clippy::doc_markdown, reason = "the documentation is the header's")]

mod argument;
mod call;
mod guard;
mod handle;
mod out;

// The order is the order of the header: first what a newcomer needs. The blank lines keep the formatter from sorting.
pub mod cache;

pub mod reader;

pub mod writer;

pub mod copy;

pub mod tee;

pub mod stream;

pub mod query;

pub mod list;

pub mod queue;

pub mod maintenance;

pub mod bounds;
pub mod pin;

pub mod statistics;

pub mod verify;

pub mod options;

pub mod inspection;

pub mod status;

pub mod version;
