//! Metrics: what the cache has and has done, as numbers for Prometheus, and as samples for a history.
//!
//! `snapshot` reads the numbers, `families` names them, `exposition` writes them, `history` keeps samples.

pub mod exposition;
pub mod families;
pub mod history;
pub mod snapshot;
