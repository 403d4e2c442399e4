//! Verifying cached images: their bytes, as they are on the disk, against the digests that were stored at their commits.
//!
//! `pass` chooses the images and shares them with other processes, `image` verifies one of them, `pieces` reads it, `pace` keeps the rate.
//! `call` is what they share.

mod call;
mod image;
mod pace;
pub(crate) mod pass;
mod pieces;
