//! The formats of disk images: which one a file has, and whether it is safe to open. Knows bytes only: no paths, no cache.
//!
//! An image is safe if it is self-contained: a program that opens it reads and writes no other file, and needs no more of the host than
//! its own size justifies. `probe` finds the format as qemu would, one file for each format checks it. All numbers come from an attacker,
//! so all arithmetic is checked, each offset must be within the file, and at most 1 MiB is read.

#[cfg(test)]
mod builders;
mod inspect;
mod iso;
mod kinds;
mod probe;
mod qcow2;
mod qcow2_tables;
pub(crate) mod reading;
#[cfg(test)]
mod tests;
mod vhd;
mod vhdx;
mod vmdk;
mod vmdk_descriptor;

pub(crate) use inspect::inspect;
pub(crate) use kinds::Formats;
