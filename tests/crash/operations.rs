//! The operations that are swept: what each does to get ready, what is looked at, and what it may change.

use std::time::Duration;

use image_cache::{Algorithm, Error, Options};

use crate::scene::{DEAD, Manner, Scene, bytes_of, md5_of};
use crate::stage::Stage;

/// One operation.
pub struct Operation {
    pub name: &'static str,
    pub scene: Scene,
    /// What comes before the part that is looked at.
    pub get_ready: fn(&mut Stage) -> Result<(), Error>,
    /// The part that is looked at.
    pub act: fn(&mut Stage) -> Acted,
    /// What it may change, and must have changed once it returned success.
    pub effects: &'static [Effect],
}

impl Operation {
    /// Whether its result is that of one image.
    pub fn caches_one(&self) -> bool {
        self.effects.iter().filter(|effect| effect.is_caching()).count() == 1
    }
}

/// What an operation that returned says of itself.
pub type Acted = Result<Said, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Everything that was asked for is done.
    Done,
    /// It succeeded at what it promises, and said that it did not do the rest (a tee that gave caching up, say).
    NotAll,
}

/// What an operation does to an image.
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
    /// What is invalid or stalled is gone.
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
fn done<T>(_: T) -> Said {
    Said::Done
}

/// Two of the three images are too much, whichever they are.
pub const LIMIT: u64 = 5999;

/// So that pruning removes the two that were used least recently.
fn limited(stage: &Stage) -> Options {
    stage.manner.options().max_size(LIMIT)
}

/// What every program does first. It is what the second kill interrupts, too.
fn open_and_look(stage: &mut Stage) -> Acted {
    stage.open()?;
    stage.cache().list_cached()?;
    stage.cache().cache_size()?;
    stage.cache().list_queued()?;
    Ok(Said::Done)
}

/// Commits, and reads: what is read before is written at once, this hit is not.
fn leave_pending(stage: &mut Stage) -> Result<(), Error> {
    stage.open()?;
    stage.write_whole("new")?;
    stage.commit()?;
    for _ in 0..READS_AT_ONCE {
        stage.read_whole("new")?;
    }
    stage.read_whole("kept").map(drop)
}

/// As many as are written at once.
const READS_AT_ONCE: usize = 2;

/// The operation that recovery consists of: opening, looking, writing, closing.
pub const RECOVERY: Operation = Operation {
    name: "recovery",
    scene: Scene::Crashed,
    get_ready: |_| Ok(()),
    act: |stage| {
        open_and_look(stage)?;
        match stage.begin("new") {
            Ok(()) => stage.writer.take().expect("there is a writer").abort("enough"),
            Err(Error::AlreadyCached(_)) => {}
            Err(error) => return Err(error),
        }
        stage.cache = None;
        Ok(Said::Done)
    },
    effects: &[Effect::Writes("new")],
};

/// Every operation that changes something.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "begin",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.begin("new").map(done),
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "begin_after_a_dead_writer",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.begin(DEAD).map(done),
        effects: &[Effect::Writes(DEAD)],
    },
    Operation {
        name: "chunk",
        scene: Scene::Usual,
        get_ready: |stage| stage.open().and_then(|()| stage.begin("new")),
        act: |stage| {
            let bytes = bytes_of("new");
            stage.write(&bytes[..1000])?;
            stage.write(&bytes[1000..]).map(done)
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "commit",
        scene: Scene::Usual,
        get_ready: |stage| stage.open().and_then(|()| stage.write_whole("new")),
        act: Stage::commit,
        effects: &[Effect::Caches("new")],
    },
    Operation {
        name: "commit_of_a_queued_image",
        scene: Scene::Usual,
        get_ready: |stage| stage.open().and_then(|()| stage.write_whole("queued")),
        act: Stage::commit,
        effects: &[Effect::Caches("queued")],
    },
    Operation {
        name: "commit_of_wrong_bytes",
        scene: Scene::Usual,
        get_ready: |stage| {
            stage.open()?;
            stage.begin("new")?;
            let writer = stage.writer.as_mut().expect("there is a writer");
            writer.expect_digest(Algorithm::Md5, &md5_of(b"others"))?;
            writer.write_chunk(b"wrong")
        },
        act: |stage| match stage.commit() {
            Err(Error::DigestMismatch { .. }) => Ok(Said::Done),
            Ok(_) => panic!("bytes with another digest were cached"),
            Err(error) => Err(error),
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "abort",
        scene: Scene::Usual,
        get_ready: |stage| stage.open().and_then(|()| stage.write_whole("new")),
        act: |stage| {
            stage.writer.take().expect("there is a writer").abort("enough");
            Ok(Said::Done)
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "tee",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.read_tee("new"),
        effects: &[Effect::Caches("new")],
    },
    Operation {
        name: "prefetch",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| {
            let done = stage.cache().prefetch(|id, writer| writer.write_chunk(&bytes_of(id)))?;
            stage.counted(done.fetched + done.failed, 2);
            Ok(if done.failed == 0 { Said::Done } else { Said::NotAll })
        },
        effects: &[Effect::Caches("queued"), Effect::Caches("queued-next")],
    },
    Operation {
        name: "read",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.read_whole("older"),
        effects: &[Effect::ReadsOnly("older")],
    },
    Operation {
        name: "read_and_ask_for_hits",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| {
            let said = stage.read_whole("older")?;
            stage.cache().hit_count("older")?;
            Ok(said)
        },
        effects: &[Effect::Reads("older")],
    },
    Operation {
        name: "delete",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.cache().delete_cached_image("older").map(done),
        effects: &[Effect::Deletes("older")],
    },
    Operation {
        name: "delete_all",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| Ok(stage.counted(stage.cache().delete_all_cached_images()?, 3)),
        effects: &[Effect::Deletes("kept"), Effect::Deletes("older"), Effect::Deletes("oldest")],
    },
    Operation {
        name: "prune",
        scene: Scene::Usual,
        get_ready: |stage| stage.open_with(limited(stage)),
        act: |stage| Ok(stage.counted(stage.cache().prune()?.images, 2)),
        effects: &[Effect::Evicts("older"), Effect::Evicts("oldest")],
    },
    Operation {
        name: "clean",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| Ok(stage.counted(stage.cache().clean(Some(Duration::ZERO))?, 2)),
        effects: &[Effect::Cleans],
    },
    Operation {
        name: "queue",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| Ok(stage.counted(stage.cache().queue_image("new")?.into(), 1)),
        effects: &[Effect::Enqueues("new")],
    },
    Operation {
        name: "delete_queued",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| stage.cache().delete_queued_image("queued").map(done),
        effects: &[Effect::Dequeues("queued")],
    },
    Operation {
        name: "delete_all_queued",
        scene: Scene::Usual,
        get_ready: Stage::open,
        act: |stage| Ok(stage.counted(stage.cache().delete_all_queued_images()?, 2)),
        effects: &[Effect::Dequeues("queued"), Effect::Dequeues("queued-next")],
    },
    Operation {
        name: "close_with_pending_hits",
        scene: Scene::Usual,
        get_ready: leave_pending,
        act: |stage| {
            stage.cache = None;
            Ok(Said::Done)
        },
        // The last hit was not written yet, so that a kill may lose it.
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new"), Effect::ReadsOnly("new"), Effect::Reads("kept")],
    },
    Operation {
        name: "open_of_a_new_directory",
        scene: Scene::Empty,
        get_ready: |_| Ok(()),
        act: open_and_look,
        effects: &[],
    },
    Operation { name: "open", scene: Scene::Usual, get_ready: |_| Ok(()), act: open_and_look, effects: &[] },
    Operation {
        name: "open_after_a_crash",
        scene: Scene::Crashed,
        get_ready: |_| Ok(()),
        act: open_and_look,
        effects: &[],
    },
    Operation {
        name: "open_after_a_restart",
        scene: Scene::Restarted,
        get_ready: |_| Ok(()),
        act: open_and_look,
        effects: &[Effect::Deletes("oldest")],
    },
    Operation {
        name: "open_with_a_damaged_index",
        scene: Scene::Damaged,
        get_ready: |_| Ok(()),
        act: open_and_look,
        effects: &[],
    },
];

/// Those that a driver has.
pub fn operations(manner: Manner) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(move |operation| operation.scene != Scene::Damaged || manner.is_sqlite())
}

pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().chain([&RECOVERY]).find(|operation| operation.name == name)
}
