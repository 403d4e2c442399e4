//! A cache within its bounds: the hard limit and the floor, by the blocks that `du` and the kernel show.

mod beside_others;
mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod edges;
mod hard_limit;
