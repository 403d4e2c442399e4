//! The real cache under the model's steps, and the comparison after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use image_cache::{Durability, Error, ImageCache, Options, Statistics, VerifyOptions, Writer};
use proptest_state_machine::StateMachineTest;

use crate::Driver;
use crate::common::{Scratch, files, read_image};
use crate::reference::{Counts, Id, LIMIT, Model, PIECE, Step, TeeEnd, bytes, name};

pub struct CacheUnderTest<D> {
    scratch: Scratch,
    cache: ImageCache,
    writers: BTreeMap<Id, Writer>,
    driver: PhantomData<D>,
}

fn options<D: Driver>() -> Options {
    Options::new().driver(D::CHOICE).durability(Durability::None).max_size(LIMIT)
}

/// A deletion fails exactly if something that it would delete is pinned.
fn refused_if(is_pinned: bool, deleted: Result<(), Error>) {
    match deleted {
        Err(Error::Pinned { .. }) => assert!(is_pinned),
        deleted => assert!(!is_pinned && deleted.is_ok(), "{deleted:?}"),
    }
}

/// A source that returns an image in uneven pieces, and may fail after them.
struct Source {
    data: io::Cursor<Vec<u8>>,
    fails: bool,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = buffer.len().min(7);
        match self.data.read(&mut buffer[..piece])? {
            0 if self.fails => Err(io::Error::other("the connection broke")),
            length => Ok(length),
        }
    }
}

impl<D: Driver> CacheUnderTest<D> {
    fn tee(&self, id: Id, length: u64, ends: TeeEnd) {
        let source = Source { data: io::Cursor::new(bytes(id, length)), fails: matches!(ends, TeeEnd::SourceFails) };
        let mut tee = self.cache.tee(&name(id), source).unwrap();
        if matches!(ends, TeeEnd::WrongSize) {
            tee.expect_size(length + 1).unwrap();
        }
        let mut data = Vec::new();
        let mut buffer = [0; 16];
        let outcome = loop {
            match tee.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => data.extend_from_slice(&buffer[..length]),
                Err(error) => break Err(error),
            }
            if matches!(ends, TeeEnd::Closed) {
                return;
            }
        };
        // The tee delivers every byte, whether the image is cached or not.
        assert_eq!(data, bytes(id, length));
        match ends {
            TeeEnd::SourceFails => assert!(matches!(outcome, Err(Error::Source { .. })), "{outcome:?}"),
            TeeEnd::WrongSize => assert!(matches!(outcome, Err(Error::SizeMismatch { .. })), "{outcome:?}"),
            TeeEnd::Whole | TeeEnd::Closed => assert_eq!(outcome, Ok(())),
        }
    }

    /// `size`: of the image, if it is cached afterwards.
    fn stream(&self, id: Id, length: u64, ends: TeeEnd, size: Option<u64>) {
        let source = bytes(id, length);
        let source = |offset: u64, buffer: &mut [u8]| {
            let left = source.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let piece = left.len().min(buffer.len()).min(usize::try_from(PIECE).unwrap());
            buffer[..piece].copy_from_slice(&left[..piece]);
            let fails = piece == 0 && matches!(ends, TeeEnd::SourceFails);
            if fails { Err(io::Error::other("the connection broke")) } else { Ok(piece) }
        };
        let mut stream = self.cache.stream(&name(id), source).unwrap();
        if matches!(ends, TeeEnd::WrongSize) {
            stream.expect_size(length + 1).unwrap();
        }
        let mut data = Vec::new();
        let mut buffer = [0; 16];
        let outcome = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => data.extend_from_slice(&buffer[..length]),
                Err(error) => break Err(error),
            }
            if matches!(ends, TeeEnd::Closed) {
                break Ok(());
            }
        };
        // Every image has the same byte, over and over.
        assert_eq!(data, bytes(id, data.len() as u64));
        match (ends, size) {
            (TeeEnd::Closed, _) => assert_eq!(outcome, Ok(())),
            (TeeEnd::WrongSize, size) if size != Some(length + 1) => {
                assert_eq!(data.len() as u64, length);
                assert!(matches!(outcome, Err(Error::SizeMismatch { .. })), "{outcome:?}");
            }
            (_, Some(size)) => assert_eq!((outcome, data.len() as u64), (Ok(()), size)),
            (_, None) => assert!(matches!(outcome, Err(Error::Source { .. })), "{outcome:?}"),
        }
    }

    /// `model`: after it. So many images are damaged.
    fn verify(&self, model: &Model, damaged: u64) {
        let go_on = |_: &str, _, _| ControlFlow::Continue(());
        let found = self.cache.verify(None, &VerifyOptions::default(), go_on).unwrap();
        assert_eq!((found.verified, found.failed), (model.cached.len() as u64, damaged), "{found:?}");
    }

    fn prefetch(&self) {
        self.cache
            .prefetch(|image_id, writer| {
                let id = (0..=u8::MAX).find(|id| name(*id) == image_id).unwrap();
                writer.write_chunk(&bytes(id, u64::from(id)))?;
                if id % 2 == 0 { Ok(()) } else { Err(Error::InvalidArgument("an odd image".to_owned())) }
            })
            .unwrap();
    }
}

impl<D: Driver> StateMachineTest for CacheUnderTest<D> {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_model: &Model) -> Self {
        let scratch = Scratch::new(D::CHOICE);
        let cache = scratch.open_with(options::<D>());
        Self { scratch, cache, writers: BTreeMap::new(), driver: PhantomData }
    }

    /// `model` is the state after the step.
    fn apply(mut system: Self, model: &Model, step: Step) -> Self {
        match step {
            Step::Begin(id) => match system.cache.begin_write(&name(id)) {
                Ok(writer) => assert!(system.writers.insert(id, writer).is_none(), "a second writer of {id}"),
                Err(Error::AlreadyCached(_)) => assert!(model.cached.contains_key(&id)),
                Err(Error::BeingCached(_)) => assert!(system.writers.contains_key(&id)),
                Err(error) => panic!("{error}"),
            },
            Step::Chunk(id, length) => {
                if let Some(writer) = system.writers.get_mut(&id) {
                    let outcome = writer.write_chunk(&bytes(id, u64::from(length)));
                    assert_eq!(outcome.is_ok(), model.is_being_written(id), "{outcome:?}");
                }
            }
            Step::Commit(id) => {
                if let Some(writer) = system.writers.remove(&id) {
                    let outcome = writer.commit();
                    assert!(
                        matches!(&outcome, Err(Error::Lost { .. }))
                            || outcome.is_ok() && model.cached.contains_key(&id),
                        "{outcome:?}"
                    );
                }
            }
            Step::Abort(id) => {
                if let Some(writer) = system.writers.remove(&id) {
                    writer.abort("the model aborts");
                }
            }
            Step::Read(id) => match model.cached.get(&id) {
                Some(image) => assert_eq!(read_image(&system.cache, &name(id)), bytes(id, image.size)),
                None => assert!(matches!(system.cache.open_for_read(&name(id)), Err(Error::NotFound { .. }))),
            },
            Step::Tee { id, length, ends } => system.tee(id, u64::from(length), ends),
            Step::Stream { id, length, ends } => {
                let size = model.cached.get(&id).map(|image| image.size);
                system.stream(id, u64::from(length), ends, size);
            }
            Step::Delete(id) => {
                refused_if(model.is_pinned(id), system.cache.delete_cached_image(&name(id)));
            }
            Step::DeleteAll => {
                refused_if(!model.pins.is_empty(), system.cache.delete_all_cached_images().map(drop));
            }
            Step::Queue(id) => drop(system.cache.queue_image(&name(id)).unwrap()),
            Step::Dequeue(id) => system.cache.delete_queued_image(&name(id)).unwrap(),
            Step::DequeueAll => drop(system.cache.delete_all_queued_images().unwrap()),
            Step::Prefetch => system.prefetch(),
            Step::Prune => {
                let before = system.cache.cache_size().unwrap();
                assert_eq!(system.cache.prune().unwrap().bytes, before - model.size());
            }
            Step::MakeRoom(bytes) => {
                let before = system.cache.cache_size().unwrap();
                match system.cache.make_room(bytes.into()) {
                    Ok(pruned) => assert_eq!(pruned.bytes, before - model.size()),
                    Err(error) => {
                        assert!(matches!(error, Error::NoRoom { .. }), "{error}");
                        let limit = LIMIT.checked_sub(bytes.into());
                        assert!(limit.is_none_or(|limit| !model.victims(limit).1), "nothing is evicted in vain");
                    }
                }
            }
            Step::Pin(id, holder) => {
                let time = (holder > 0).then_some(Duration::from_secs(60 * 60));
                match system.cache.pin(&name(id), [holder + 1], time) {
                    Ok(()) => assert!(model.pins[&id].contains(&holder)),
                    Err(Error::NotFound { .. }) => assert!(!model.cached.contains_key(&id)),
                    Err(Error::PinnedFull { .. }) => assert!(model.is_pinned_full(id)),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Unpin(id, holder) => system.cache.unpin(&name(id), [holder + 1]).unwrap(),
            Step::Verify => system.verify(model, 0),
            Step::Damage(id) => {
                let file = File::options().write(true).open(system.scratch.file(&name(id))).unwrap();
                file.write_all_at(&[!id], 0).unwrap();
                system.verify(model, 1);
            }
            Step::CleanAll => drop(system.cache.clean(Some(std::time::Duration::ZERO)).unwrap()),
            Step::CleanFailed => drop(system.cache.clean(None).unwrap()),
            Step::Reopen => {
                let Self { scratch, cache, writers, driver } = system;
                drop(writers);
                drop(cache);
                let cache = scratch.open_with(options::<D>());
                system = Self { scratch, cache, writers: BTreeMap::new(), driver };
            }
        }
        system
    }

    fn check_invariants(system: &Self, model: &Model) {
        let names = |ids: &mut dyn Iterator<Item = Id>| ids.map(name).collect::<BTreeSet<_>>();
        let listed: Vec<_> = system.cache.list_cached().unwrap().collect();
        let expected: Vec<_> = model.cached.iter().map(|(id, image)| (name(*id), image.size, image.hits)).collect();
        let found: Vec<_> = listed.iter().map(|image| (image.image_id.clone(), image.size, image.hits)).collect();
        assert_eq!(found, expected, "the listing");

        let mut by_use: Vec<_> = listed.iter().map(|image| (image.last_accessed, image.image_id.clone())).collect();
        by_use.sort();
        let by_use: Vec<_> = by_use.into_iter().map(|(_, id)| id).collect();
        assert_eq!(by_use, model.access_order.iter().copied().map(name).collect::<Vec<_>>(), "the order of use");

        assert_eq!(system.cache.cache_size().unwrap(), model.size(), "the size");
        for id in model.cached.keys() {
            let pins =
                system.cache.pins(&name(*id)).unwrap().into_iter().map(|pin| pin.holder).collect::<BTreeSet<_>>();
            let holders = model.pins.get(id).into_iter().flatten();
            assert_eq!(pins, holders.map(|holder| vec![holder + 1]).collect(), "the holders of image {id}");
        }
        let found = system.cache.statistics().unwrap();
        let Statistics { hits, misses, commits, evictions, evicted_bytes, verified, found_damaged, .. } = found;
        let found = Counts { hits, misses, commits, evictions, evicted_bytes, verified, found_damaged };
        assert_eq!(found, model.counts, "the statistics");
        let queue: Vec<_> = system.cache.list_queued().unwrap().into_iter().map(|image| image.image_id).collect();
        assert_eq!(queue, model.queue.iter().copied().map(name).collect::<Vec<_>>(), "the queue");

        let names_in = |directory: &str| files(&system.scratch.file(directory)).into_iter().collect::<BTreeSet<_>>();
        let images = names_in(".").into_iter().filter(|name| name.starts_with("image")).collect::<BTreeSet<_>>();
        assert_eq!(images, names(&mut model.cached.keys().copied()), "the cached files");
        let writing = model.writers.iter().filter(|(_, written)| written.is_some()).map(|(id, _)| *id);
        let incomplete = writing.chain(model.fetches.keys().copied()).collect::<Vec<_>>();
        assert_eq!(names_in("incomplete"), names(&mut incomplete.into_iter()), "incomplete/");
        if system.scratch.file(".image_cache/streams").exists() {
            let fetches = names(&mut model.fetches.keys().copied());
            assert_eq!(names_in(".image_cache/streams"), fetches, "the records of streams");
        }
        assert_eq!(names_in("invalid"), names(&mut model.invalid.iter().copied()), "invalid/");
        assert_eq!(names_in("queue"), names(&mut model.queue.iter().copied()), "queue/");
        for (id, image) in &model.cached {
            let length = std::fs::metadata(system.scratch.file(&name(*id))).unwrap().len();
            assert_eq!(length, image.size, "the length of the file of image {id}");
        }
    }
}
