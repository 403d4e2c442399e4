//! The report: one HTML page that needs nothing else, with what the cache has now, and charts over time from the history.
//!
//! `page` writes the page, `series` makes values over time out of samples, `scale` chooses the marks of axes, `chart` draws. The charts are
//! drawn here, and not by a crate: their colours are variables of the page's style, which follows a light or a dark desktop.

mod chart;
mod page;
mod scale;
mod series;

pub use page::{Facts, html};
