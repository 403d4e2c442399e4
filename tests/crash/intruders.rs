//! What comes between two system calls of a stream: other processes that use the cache, and other programs that change its files.

use std::any::Any;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image_cache::{Error, ImageCache, Options};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::checks::{CheckResult, context};
use crate::configuration::Configuration;
use crate::fixture::{bytes_of, write_image};

/// The image of a stream, as an intruder sees it.
pub struct Target {
    pub directory: PathBuf,
    pub id: &'static str,
    pub configuration: Configuration,
}

/// What an intruder leaves open until the stream has ended.
pub type Handle = Option<Box<dyn Any>>;

pub struct Intruder {
    pub name: &'static str,
    act: Act,
    /// What the stream and those after it may suffer, beside the fetch that is lost.
    pub harm: Harm,
}

#[derive(Clone, Copy)]
enum Act {
    /// Uses the cache, once the stream does not hold the cache lock any more.
    Cache(fn(&ImageCache, &Target) -> image_cache::Result<Handle>),
    /// Changes files, without any lock.
    Files(fn(&Target) -> io::Result<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Nothing,
    /// The bytes in the file are not those that were appended: the digest is wrong at the end.
    WrongDigest,
    /// A file that another program wrote has the image's incomplete name, until a clean.
    Occupied,
}

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

pub const INTRUDERS: &[Intruder] = &[
    by_cache("deletes the image", |cache, target| cache.delete_cached_image(target.id).map(|()| None)),
    by_cache("deletes the image and caches it again", |cache, target| {
        cache.delete_cached_image(target.id)?;
        cache_unless_another_does(cache, target.id)
    }),
    by_cache("deletes all images", |cache, _| cache.delete_all_cached_images().map(|_| None)),
    by_cache("prunes", |cache, _| cache.prune().map(|_| None)),
    by_cache("cleans", |cache, _| cache.clean(AT_ONCE).map(|_| None)),
    by_cache("cleans and caches the image", |cache, target| {
        cache.clean(AT_ONCE)?;
        cache_unless_another_does(cache, target.id)
    }),
    by_cache("cleans and begins to write the image", |cache, target| {
        cache.clean(AT_ONCE)?;
        match cache.begin_write(target.id) {
            Ok(mut writer) => {
                writer.write_chunk(&bytes_of(target.id)[..700])?;
                Ok(Some(Box::new(writer)))
            }
            Err(Error::AlreadyCached(_) | Error::BeingCached { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }),
    by_files("removes the incomplete file", Harm::Nothing, |target| remove(&target.incomplete())),
    by_files("removes the image", Harm::Nothing, |target| remove(&target.directory.join(target.id))),
    by_files("empties the incomplete file", Harm::WrongDigest, |target| shorten(&target.incomplete(), 0)),
    by_files("shortens the incomplete file", Harm::WrongDigest, |target| shorten(&target.incomplete(), 700)),
    by_files("replaces the incomplete file", Harm::Occupied, |target| {
        replace(&target.incomplete(), &bytes_of(target.id)[..700])
    }),
    by_files("takes all permissions from the incomplete file", Harm::Occupied, |target| forbid(&target.incomplete())),
    by_files("removes the record", Harm::Nothing, |target| remove(&target.record())),
    by_files("empties the record", Harm::Nothing, |target| shorten(&target.record(), 0)),
    by_files("shortens the record", Harm::Nothing, |target| shorten(&target.record(), 100)),
    by_files("overwrites the record", Harm::Nothing, |target| {
        let length = unless_gone(fs::metadata(target.record()).map(|metadata| metadata.len()))?;
        let garbage = vec![0x5a; usize::try_from(length).expect("a short file")];
        if length == 0 { Ok(()) } else { fs::write(target.record(), garbage) }
    }),
    by_files("replaces the record", Harm::Nothing, |target| replace(&target.record(), &[0x5a; 1000])),
    by_files("takes all permissions from the record", Harm::Nothing, |target| forbid(&target.record())),
    by_files("removes the directory of the records", Harm::Nothing, |target| {
        let record = target.record();
        unless_gone(fs::remove_dir_all(record.parent().unwrap_or(&record)))
    }),
];

const fn by_cache(name: &'static str, act: fn(&ImageCache, &Target) -> image_cache::Result<Handle>) -> Intruder {
    Intruder { name, act: Act::Cache(act), harm: Harm::Nothing }
}

const fn by_files(name: &'static str, harm: Harm, act: fn(&Target) -> io::Result<()>) -> Intruder {
    Intruder { name, act: Act::Files(act), harm }
}

impl Intruder {
    pub fn is_another_program(&self) -> bool {
        matches!(self.act, Act::Files(_))
    }

    /// Whether it can act now, without waiting for a lock.
    pub fn is_ready(&self, target: &Target) -> io::Result<bool> {
        Ok(self.is_another_program() || !target.is_locked()?)
    }

    pub fn act(&self, target: &Target) -> CheckResult<Handle> {
        match self.act {
            Act::Files(act) => context(self.name, act(target)).map(|()| None),
            Act::Cache(act) => {
                let cache = context("the intruder's open", ImageCache::open(&target.directory, target.options()))?;
                context(self.name, act(&cache, target))
            }
        }
    }
}

impl Target {
    /// So that a prune removes all images.
    fn options(&self) -> Options {
        self.configuration.options().max_size(0)
    }

    fn incomplete(&self) -> PathBuf {
        self.directory.join("incomplete").join(self.id)
    }

    fn record(&self) -> PathBuf {
        self.directory.join(".image_cache/streams").join(self.id)
    }

    /// Whether a process holds the cache lock, the prune lock, or waits for one of them.
    fn is_locked(&self) -> io::Result<bool> {
        const LOCKS: [libc::off_t; 3] = [0, 1, 3];
        let file = File::options().read(true).write(true).open(self.directory.join(".image_cache/lock"))?;
        for byte in LOCKS {
            let mut lock = libc::flock {
                l_type: libc::c_short::try_from(libc::F_WRLCK).expect("a kind of lock"),
                l_whence: libc::c_short::try_from(libc::SEEK_SET).expect("a small number"),
                l_start: byte,
                l_len: 1,
                l_pid: 0,
            };
            fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
            if i32::from(lock.l_type) != libc::F_UNLCK {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn cache_unless_another_does(cache: &ImageCache, id: &str) -> image_cache::Result<Handle> {
    match cache.begin_write(id) {
        Ok(writer) => write_image(writer, id).map(|()| None),
        Err(Error::AlreadyCached(_) | Error::BeingCached { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file may not be there at that moment.
fn unless_gone<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_file(path))
}

fn shorten(path: &Path, length: u64) -> io::Result<()> {
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if file.metadata()?.len() > length => file.set_len(length),
        Ok(_) => Ok(()),
    }
}

/// Puts another file in the place of one that is there.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let other = path.with_extension("other-programs");
    fs::write(&other, content)?;
    fs::rename(other, path)
}

fn forbid(path: &Path) -> io::Result<()> {
    unless_gone(fs::set_permissions(path, Permissions::from_mode(0o000)))
}
