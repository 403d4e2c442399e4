//! What an operation is, with which drivers and durabilities it is swept, and what it may change.

use image_cache::{Durability, Error};

use crate::configuration::Configuration;
use crate::fixture::Fixture;
use crate::setup::Setup;

/// One operation.
pub struct Operation {
    pub name: &'static str,
    pub fixture: Fixture,
    /// Comes before the traced part.
    pub prepare: fn(&mut Setup) -> Result<(), Error>,
    /// The traced part.
    pub run: fn(&mut Setup) -> OperationResult,
    /// What it may change, and has changed once it returned success.
    pub effects: &'static [Effect],
}

impl Operation {
    /// Whether it evicts, or leaves images in use.
    pub fn takes_leases(&self) -> bool {
        self.is_within_a_limit() || ["prune", "make_room", "delete_unused", "prune_beside_pins"].contains(&self.name)
    }

    /// Whether a forked child keeps images in use that were checked at the fork: others are evicted in their place.
    pub fn evicts_others_beside_a_fork(&self) -> bool {
        self.is_within_a_limit() || self.name == "make_room"
    }

    /// Whether `make test` sweeps it with this driver and durability. Some operations are the same with all.
    pub fn is_swept(&self, configuration: Configuration) -> bool {
        match self.name {
            "export"
            | "export_bytes"
            | "write_hole"
            | "pin"
            | "pin_again"
            | "unpin"
            | "prune_beside_pins"
            | "verify"
            | "delete_unused"
            | "commit_of_an_inspected_image"
            | "commit_of_a_refused_image"
            | "stream_of_an_inspected_image"
            | "refused_stream" => configuration.is_sqlite() && configuration.durability == Durability::Full,
            "write_within_a_hard_limit" => !configuration.is_sqlite() && configuration.durability == Durability::None,
            _ => true,
        }
    }

    /// Whether another process evicts as well if it writes beside it.
    pub fn is_within_a_limit(&self) -> bool {
        self.name == "write_within_a_hard_limit"
    }

    /// Whether it streams an image.
    pub fn is_stream(&self) -> bool {
        self.name.starts_with("stream")
    }

    /// Whether it caches exactly one image.
    pub fn caches_one(&self) -> bool {
        self.effects.iter().filter(|effect| effect.is_caching()).count() == 1
    }
}

/// What an operation returns.
pub type OperationResult = Result<Outcome, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was called for is done.
    Done,
    /// It kept its promise and reported that it skipped the rest (a tee that stopped caching, for example).
    Partial,
}

/// What an operation does to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The image is cached afterwards, and not queued.
    Caches(&'static str),
    /// The image is being written, and is not cached in the end.
    Writes(&'static str),
    Deletes(&'static str),
    /// The image is deleted for the limit; where that fails, another one is.
    Evicts(&'static str),
    Enqueues(&'static str),
    Dequeues(&'static str),
    /// The image has one more hit.
    Reads(&'static str),
    /// The image has one more hit, unless the process is killed before the hit is written.
    ReadsOnly(&'static str),
    /// The image is pinned, so that a prune or a delete leaves it.
    Pins(&'static str),
    /// It is not pinned any more.
    Unpins(&'static str),
    /// Invalid and stalled files are gone.
    Cleans,
}

impl Effect {
    /// The image's id; empty where all images are meant.
    pub fn id(self) -> &'static str {
        match self {
            Self::Caches(id)
            | Self::Writes(id)
            | Self::Deletes(id)
            | Self::Evicts(id)
            | Self::Enqueues(id)
            | Self::Dequeues(id)
            | Self::Pins(id)
            | Self::Unpins(id)
            | Self::Reads(id)
            | Self::ReadsOnly(id) => id,
            Self::Cleans => "",
        }
    }

    pub fn is_caching(self) -> bool {
        matches!(self, Self::Caches(_))
    }

    pub fn is_read(self) -> bool {
        matches!(self, Self::Reads(_) | Self::ReadsOnly(_))
    }
}
