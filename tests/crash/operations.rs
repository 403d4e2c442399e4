//! The operations that are swept: what each does to get ready, what is visited at, and what it may change.

use std::time::Duration;

use image_cache::{Algorithm, Error, Options};

use crate::fixture::{Configuration, DEAD, Fixture, bytes_of, md5_of};
use crate::setup::Setup;

/// One operation.
pub struct Operation {
    pub name: &'static str,
    pub fixture: Fixture,
    /// FaultKind comes before the part that is visited at.
    pub prepare: fn(&mut Setup) -> Result<(), Error>,
    /// The part that is visited at.
    pub run: fn(&mut Setup) -> OperationResult,
    /// FaultKind it may change, and must have changed once it returned success.
    pub effects: &'static [Effect],
}

impl Operation {
    /// Whether its result is that of one image.
    pub fn caches_one(&self) -> bool {
        self.effects.iter().filter(|effect| effect.is_caching()).count() == 1
    }
}

/// FaultKind an operation that returned says of itself.
pub type OperationResult = Result<Outcome, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was asked for is done.
    Done,
    /// It succeeded at what it promises, and said that it did not do the rest (a tee that gave caching up, say).
    Partial,
}

/// FaultKind an operation does to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is cached afterwards, and not queued.
    Caches(&'static str),
    /// It is being written, and is not cached in the end.
    Writes(&'static str),
    Deletes(&'static str),
    /// It is deleted to keep the cache within its limit; should that fail, another one is.
    Evicts(&'static str),
    Enqueues(&'static str),
    Dequeues(&'static str),
    /// It has one hit more.
    Reads(&'static str),
    /// It has one hit more, unless the process is killed before the hit is written.
    ReadsOnly(&'static str),
    /// FaultKind is invalid or stalled is gone.
    Cleans,
}

impl Effect {
    /// The image; none where all are meant.
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

/// Two of the three images are too much, whichever they are.
pub const LIMIT: u64 = 5999;

/// So that pruning removes the two that were used least recently.
fn limited(setup: &Setup) -> Options {
    setup.configuration.options().max_size(LIMIT)
}

/// FaultKind every program does first. It is what the second kill interrupts, too.
fn open_and_list(setup: &mut Setup) -> OperationResult {
    setup.open()?;
    setup.cache().list_cached()?;
    setup.cache().cache_size()?;
    setup.cache().list_queued()?;
    Ok(Outcome::Done)
}

/// Commits, and reads: what is read before is written at once, this hit is not.
fn leave_hits_pending(setup: &mut Setup) -> Result<(), Error> {
    setup.open()?;
    setup.write_whole("new")?;
    setup.commit()?;
    for _ in 0..READS_AT_ONCE {
        setup.read_whole("new")?;
    }
    setup.read_whole("kept").map(drop)
}

/// As many as are written at once.
const READS_AT_ONCE: usize = 2;

/// The operation that recovery consists of: opening, looking, writing, closing.
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
            writer.expect_digest(Algorithm::Md5, &md5_of(b"others"))?;
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
        // The last hit was not written yet, so that a kill may lose it.
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new"), Effect::ReadsOnly("new"), Effect::Reads("kept")],
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

/// Those that a driver has.
pub fn operations(configuration: Configuration) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(move |operation| operation.fixture != Fixture::Damaged || configuration.is_sqlite())
}

pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().chain([&RECOVERY]).find(|operation| operation.name == name)
}
