//! The operations: how each is prepared, what the sweep traces, and what it may change.

use std::time::Duration;

use image_cache::{Algorithm, Error, Options};

use crate::checks::md5_hex;
use crate::configuration::Configuration;
use crate::fixture::{DEAD, Fixture, bytes_of};
use crate::setup::Setup;
use crate::{shared, streams};

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

#[allow(clippy::needless_pass_by_value, reason = "for map")]
fn done<T>(_: T) -> Outcome {
    Outcome::Done
}

/// Any two of the three images are over the limit.
pub const LIMIT: u64 = 5999;

/// A prune removes the two least recently used images.
fn limited(setup: &Setup) -> Options {
    setup.configuration.options().max_size(LIMIT)
}

/// What every program does first. The second kill interrupts it as well.
fn open_and_list(setup: &mut Setup) -> OperationResult {
    setup.open()?;
    setup.cache().list_cached()?;
    setup.cache().cache_size()?;
    setup.cache().list_queued()?;
    setup.cache().list_incomplete()?;
    setup.cache().list_invalid()?;
    Ok(Outcome::Done)
}

/// Commits and reads. The first hit is written at once, the second one is pending.
fn leave_hits_pending(setup: &mut Setup) -> Result<(), Error> {
    setup.open()?;
    setup.write_whole("new")?;
    setup.commit()?;
    setup.read_whole("new")?;
    setup.read_whole("kept").map(drop)
}

/// The recovery: open, list, write, close.
pub const RECOVERY: Operation = Operation {
    name: "recovery",
    fixture: Fixture::Crashed,
    prepare: |_| Ok(()),
    run: |setup| {
        open_and_list(setup)?;
        match setup.begin("new") {
            Ok(()) => setup.writer.take().expect("there is a writer").abort("enough"),
            Err(Error::AlreadyCached(_)) => {}
            Err(error) => return Err(error),
        }
        setup.cache = None;
        Ok(Outcome::Done)
    },
    effects: &[Effect::Writes("new")],
};

/// Every operation that changes something.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "begin",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.begin("new").map(done),
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "begin_after_a_dead_writer",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.begin(DEAD).map(done),
        effects: &[Effect::Writes(DEAD)],
    },
    Operation {
        name: "chunk",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.begin("new")),
        run: |setup| {
            let bytes = bytes_of("new");
            setup.write(&bytes[..1000])?;
            setup.write(&bytes[1000..]).map(done)
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "commit",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.write_whole("new")),
        run: Setup::commit,
        effects: &[Effect::Caches("new")],
    },
    Operation {
        name: "commit_of_a_queued_image",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.write_whole("queued")),
        run: Setup::commit,
        effects: &[Effect::Caches("queued")],
    },
    Operation {
        name: "commit_of_wrong_bytes",
        fixture: Fixture::Usual,
        prepare: |setup| {
            setup.open()?;
            setup.begin("new")?;
            let writer = setup.writer.as_mut().expect("there is a writer");
            writer.expect_digest(Algorithm::Md5, &md5_hex(b"others"))?;
            writer.write_chunk(b"wrong")
        },
        run: |setup| match setup.commit() {
            Err(Error::DigestMismatch { .. }) => Ok(Outcome::Done),
            Ok(_) => panic!("bytes with another digest were cached"),
            Err(error) => Err(error),
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "abort",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.write_whole("new")),
        run: |setup| {
            setup.writer.take().expect("there is a writer").abort("enough");
            Ok(Outcome::Done)
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "tee",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.read_tee("new"),
        effects: &[Effect::Caches("new")],
    },
    // A stream of an image that is cached meanwhile makes a hit.
    Operation {
        name: "stream",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| streams::read_whole(setup, "new"),
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new")],
    },
    Operation {
        name: "stream_that_resumes_a_fetch",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| streams::leave_unfinished(setup, "new")),
        run: |setup| streams::read_whole(setup, "new"),
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new")],
    },
    Operation {
        name: "stream_read_ahead",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| streams::read_ahead(setup, "queued"),
        effects: &[Effect::Caches("queued"), Effect::ReadsOnly("queued")],
    },
    Operation {
        name: "stream_of_wrong_bytes",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| streams::read_wrong(setup, "new"),
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "stream_of_a_cached_image",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| streams::read_whole(setup, "older"),
        effects: &[Effect::ReadsOnly("older")],
    },
    Operation {
        name: "prefetch",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| {
            let done = setup.cache().prefetch(|id, writer| writer.write_chunk(&bytes_of(id)))?;
            setup.counted(done.fetched + done.failed, 2);
            Ok(if done.failed == 0 { Outcome::Done } else { Outcome::Partial })
        },
        effects: &[Effect::Caches("queued"), Effect::Caches("queued-next")],
    },
    Operation {
        name: "read",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.read_whole("older"),
        effects: &[Effect::ReadsOnly("older")],
    },
    Operation {
        name: "read_and_ask_for_hits",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| {
            let outcome = setup.read_whole("older")?;
            setup.cache().hit_count("older")?;
            Ok(outcome)
        },
        effects: &[Effect::Reads("older")],
    },
    Operation {
        name: "delete",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.cache().delete_cached_image("older").map(done),
        effects: &[Effect::Deletes("older")],
    },
    Operation {
        name: "delete_all",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| Ok(setup.counted(setup.cache().delete_all_cached_images()?, 3)),
        effects: &[Effect::Deletes("kept"), Effect::Deletes("older"), Effect::Deletes("oldest")],
    },
    Operation {
        name: "prune",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(limited(setup)),
        run: |setup| Ok(setup.counted(setup.cache().prune()?.images, 2)),
        effects: &[Effect::Evicts("older"), Effect::Evicts("oldest")],
    },
    Operation {
        name: "make_room",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(limited(setup)),
        run: |setup| Ok(setup.counted(setup.cache().make_room(0)?.images, 2)),
        effects: &[Effect::Evicts("older"), Effect::Evicts("oldest")],
    },
    Operation {
        name: "clean",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| Ok(setup.counted(setup.cache().clean(Some(Duration::ZERO))?, 2)),
        effects: &[Effect::Cleans],
    },
    Operation {
        name: "queue",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| Ok(setup.counted(setup.cache().queue_image("new")?.into(), 1)),
        effects: &[Effect::Enqueues("new")],
    },
    Operation {
        name: "delete_queued",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.cache().delete_queued_image("queued").map(done),
        effects: &[Effect::Dequeues("queued")],
    },
    Operation {
        name: "delete_all_queued",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| Ok(setup.counted(setup.cache().delete_all_queued_images()?, 2)),
        effects: &[Effect::Dequeues("queued"), Effect::Dequeues("queued-next")],
    },
    Operation {
        name: "close_with_pending_hits",
        fixture: Fixture::Usual,
        prepare: leave_hits_pending,
        run: |setup| {
            setup.cache = None;
            Ok(Outcome::Done)
        },
        // The last hit is pending, so a kill may lose it.
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new"), Effect::Reads("kept")],
    },
    Operation {
        name: "open_of_a_new_directory",
        fixture: Fixture::Empty,
        prepare: |_| Ok(()),
        run: open_and_list,
        effects: &[],
    },
    Operation { name: "open", fixture: Fixture::Usual, prepare: |_| Ok(()), run: open_and_list, effects: &[] },
    Operation {
        name: "open_after_a_crash",
        fixture: Fixture::Crashed,
        prepare: |_| Ok(()),
        run: open_and_list,
        effects: &[],
    },
    Operation {
        name: "open_after_a_restart",
        fixture: Fixture::Restarted,
        prepare: |_| Ok(()),
        run: open_and_list,
        effects: &[Effect::Deletes("oldest")],
    },
    Operation {
        name: "open_with_a_damaged_index",
        fixture: Fixture::Damaged,
        prepare: |_| Ok(()),
        run: open_and_list,
        effects: &[],
    },
];

/// The operations that apply to a driver.
pub fn operations(configuration: Configuration) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(move |operation| operation.fixture != Fixture::Damaged || configuration.is_sqlite())
}

pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().chain([&RECOVERY]).chain(shared::ALL).find(|operation| operation.name == name)
}
