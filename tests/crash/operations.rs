//! The operations: how each is prepared, what the sweep traces, and what it changes.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use image_cache::{Algorithm, CopyMode, Error, Inspector, LimitMode, Options, VerifyOptions};

use crate::checks::md5_hex;
use crate::configuration::Configuration;
use crate::fixture::{DEAD, Fixture, bytes_of};
pub use crate::operation::{Effect, Operation, OperationResult, Outcome};
use crate::setup::Setup;
use crate::{shared, streams};

#[allow(clippy::needless_pass_by_value, reason = "for map")]
fn done<T>(_: T) -> Outcome {
    Outcome::Done
}

/// Who pins images, and for how long.
pub const HOLDER: &str = "holder";
pub const ANOTHER: &str = "another";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Any two of the three images are over the limit.
pub const LIMIT: u64 = 5999;

/// A prune removes the two least recently used images.
fn limited(setup: &Setup) -> Options {
    setup.configuration.options().max_size(LIMIT)
}

/// Each image is inspected: by its format, which is raw, and by an inspector.
fn inspected(setup: &Setup, verdict: Result<(), &'static str>) -> Options {
    let inspector = Inspector::new(move |id, _, length| {
        assert!(length > 0, "an empty image is inspected");
        // The checks cache another one with this handle.
        if id == "new" { verdict.map_err(str::to_owned) } else { Ok(()) }
    });
    setup.configuration.options().formats("raw").expect("raw is a format").inspector(inspector)
}

/// The directory has room for the new image and the one used last. The open does not evict down to it: the limit is set afterwards.
fn limited_to_one(setup: &mut Setup) -> Result<(), Error> {
    const BLOCK: usize = 4096;
    setup.open_with(setup.configuration.options().max_size(u64::MAX).limit_mode(LimitMode::Hard))?;
    // It is missing if this is repeated, after the checks have evicted it.
    let kept = std::fs::metadata(setup.directory.join("kept")).map_or(0, |stat| stat.blocks() * 512);
    // And what is kept free for it: a block for its attributes, and two for extents.
    let new = bytes_of("new").len().next_multiple_of(BLOCK) + 3 * BLOCK;
    let limit = kept + new as u64;
    set_limit(&setup.directory, limit);
    Ok(())
}

/// As another process sets it.
pub fn set_limit(directory: &Path, bytes: u64) {
    std::fs::write(directory.join(".image_cache/limit"), format!("{bytes}\n")).expect("the limit is written");
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
        name: "commit_of_an_inspected_image",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(inspected(setup, Ok(()))).and_then(|()| setup.write_whole("new")),
        run: Setup::commit,
        effects: &[Effect::Caches("new")],
    },
    Operation {
        name: "commit_of_a_refused_image",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(inspected(setup, Err("unsafe"))).and_then(|()| setup.write_whole("new")),
        run: |setup| match setup.commit() {
            Err(Error::Refused { .. }) => Ok(Outcome::Done),
            Ok(_) => panic!("a refused image was cached"),
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
        name: "write_hole",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.begin("new")),
        run: |setup| {
            let writer = setup.writer.as_mut().expect("there is a writer");
            writer.write_hole(70_000)?;
            writer.write_chunk(b"bytes")?;
            writer.write_hole(1)?;
            setup.writer.take().expect("there is a writer").abort("enough");
            Ok(Outcome::Done)
        },
        effects: &[Effect::Writes("new")],
    },
    Operation {
        name: "import",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with_file("new"),
        run: |setup| setup.import("new"),
        effects: &[Effect::Caches("new")],
    },
    Operation {
        name: "export",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with_file("new"),
        run: |setup| setup.export("older", CopyMode::Any),
        effects: &[Effect::ReadsOnly("older")],
    },
    Operation {
        name: "export_bytes",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with_file("new"),
        run: |setup| setup.export("older", CopyMode::Copy),
        effects: &[Effect::ReadsOnly("older")],
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
        name: "stream_of_an_inspected_image",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(inspected(setup, Ok(()))),
        run: |setup| streams::read_whole(setup, "new"),
        effects: &[Effect::Caches("new"), Effect::ReadsOnly("new")],
    },
    // Not by the name of a stream: another process that streams it without an inspection caches it.
    Operation {
        name: "refused_stream",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(inspected(setup, Err("unsafe"))),
        run: |setup| streams::read_refused(setup, "new"),
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
        name: "delete_unused",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| Ok(setup.counted(setup.cache().delete_unused_image("older")?.into(), 1)),
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
        name: "write_within_a_hard_limit",
        fixture: Fixture::Usual,
        prepare: limited_to_one,
        run: |setup| {
            setup.write_whole("new")?;
            setup.commit()
        },
        effects: &[Effect::Caches("new"), Effect::Evicts("older"), Effect::Evicts("oldest")],
    },
    Operation {
        name: "make_room",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open_with(limited(setup)),
        run: |setup| Ok(setup.counted(setup.cache().make_room(0)?.images, 2)),
        effects: &[Effect::Evicts("older"), Effect::Evicts("oldest")],
    },
    Operation {
        name: "pin",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| setup.cache().pin("older", HOLDER, Some(DAY)).map(done),
        effects: &[Effect::Pins("older")],
    },
    Operation {
        name: "pin_again",
        fixture: Fixture::Usual,
        prepare: |setup| setup.open().and_then(|()| setup.cache().pin("older", HOLDER, Some(DAY))),
        run: |setup| {
            setup.cache().pin("older", ANOTHER, Some(DAY))?;
            setup.cache().pin("older", HOLDER, Some(DAY / 2)).map(done)
        },
        effects: &[Effect::Pins("older")],
    },
    Operation {
        name: "unpin",
        fixture: Fixture::Usual,
        prepare: |setup| {
            setup.open()?;
            setup.cache().pin("oldest", HOLDER, Some(DAY))?;
            setup.cache().pin("older", HOLDER, Some(DAY))
        },
        run: |setup| setup.cache().unpin("oldest", HOLDER).map(done),
        effects: &[Effect::Pins("older"), Effect::Unpins("oldest")],
    },
    Operation {
        name: "prune_beside_pins",
        fixture: Fixture::Usual,
        prepare: |setup| {
            setup.open()?;
            setup.cache().pin("oldest", HOLDER, Some(DAY))?;
            setup.open_with(limited(setup))
        },
        run: |setup| Ok(setup.counted(setup.cache().prune()?.images, 2)),
        effects: &[Effect::Evicts("older"), Effect::Evicts("kept"), Effect::Pins("oldest")],
    },
    Operation {
        name: "verify",
        fixture: Fixture::Usual,
        prepare: Setup::open,
        run: |setup| {
            let go_on = |_: &str, _, _| ControlFlow::Continue(());
            let result = setup.cache().verify(None, &VerifyOptions::default(), go_on)?;
            // With a fault, an image is unreadable. None is damaged.
            assert_eq!(result.failed, 0, "{result:?}");
            Ok(if result.unreadable + result.skipped == 0 { Outcome::Done } else { Outcome::Partial })
        },
        effects: &[],
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
