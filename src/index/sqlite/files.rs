//! The files of the index. Only this file knows what SQLite appends to a database's name.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::store::layout::{Area, Layout};
use crate::sys::dir::Directory;
use crate::sys::private::make_private;
use crate::sys::stat::FileStat;

/// The name of the database, unless the options have another one.
pub(crate) const DEFAULT_DATABASE: &str = "cache.db";

/// The longest name of a database, in bytes: `-journal` must fit behind it.
pub(crate) const MAX_DATABASE_NAME: usize = 255 - "-journal".len();

/// The database itself, its journal, and the two files of WAL mode: the write-ahead log and its shared memory. The first version of
/// this library used that mode, and other programs may.
const SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// The names of a database's files, and those of the default one, which another handle may use.
pub(crate) fn names(database: &OsStr) -> impl Iterator<Item = OsString> {
    let databases = [database.to_owned(), DEFAULT_DATABASE.into()];
    databases.into_iter().flat_map(|database| SUFFIXES.map(|suffix| with_suffix(&database, suffix)))
}

/// Whether SQLite creates files of this name beside the default database.
pub(crate) fn is_beside_default(name: &[u8]) -> bool {
    let suffix = name.strip_prefix(DEFAULT_DATABASE.as_bytes()).unwrap_or_default();
    !suffix.is_empty() && SUFFIXES.iter().any(|known| known.as_bytes() == suffix)
}

fn with_suffix(database: &OsStr, suffix: &str) -> OsString {
    let mut name = database.to_owned();
    name.push(suffix);
    name
}

/// The files of one index.
#[derive(Debug)]
pub(super) struct IndexFiles {
    layout: Arc<Layout>,
    name: OsString,
    path: PathBuf,
}

impl IndexFiles {
    pub fn new(layout: &Arc<Layout>, database: &OsStr) -> Self {
        let path = layout.directory(Area::Cached).path_of(database);
        Self { layout: Arc::clone(layout), name: database.to_owned(), path }
    }

    /// The path of the database: absolute, without symbolic links in its directories.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn directory(&self) -> &Directory {
        self.layout.directory(Area::Cached)
    }

    /// Whether the database has the default name, which no image can have.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_DATABASE
    }

    /// Creates a missing database, empty. Nobody may read it who may not write it: a reader's lock would block our writes
    /// without a limit. So a user who may only read the directory has no hits. Its journal copies the mode. If this fails,
    /// SQLite tries as well, and reports the failure.
    pub fn create(&self) {
        // The file is new, so closing it releases no POSIX lock that this process has on it.
        let _ = self.directory().create_private(&self.name, false, self.directory().is_shared());
    }

    /// Keeps those from reading the database who may not write it, also if another program created it (see [`Self::create`]).
    pub fn make_private(&self, log: &Log) {
        match make_private(self.directory(), &self.name) {
            Err(error) if !error.is_read_only_file_system() => log.warning(|| {
                format!("{error}; users who may read it, but not write it, can keep others waiting with locks on it")
            }),
            _ => {}
        }
    }

    /// The path for SQLite: through the directory's descriptor where that is possible.
    pub fn path_for_sqlite(&self) -> PathBuf {
        self.directory().path_through_descriptor().map_or_else(|| self.path.clone(), |path| path.join(&self.name))
    }

    /// The status of the file with that suffix.
    pub fn stat(&self, suffix: &str) -> Result<Option<FileStat>> {
        self.directory().stat(&with_suffix(&self.name, suffix))
    }

    /// Whether the database itself may be half of a transaction: it has a journal to be rolled back, or a log of WAL mode. A journal
    /// whose header is zeros belongs to no transaction.
    pub fn is_unfinished(&self) -> Result<bool> {
        if self.stat("-wal")?.is_some_and(|stat| stat.size > 0) {
            return Ok(true);
        }
        let name = with_suffix(&self.name, "-journal");
        // SQLite has no lock on the journal that closing it would release.
        let Some(mut journal) = self.directory().open_file(&name)? else { return Ok(false) };
        let mut first = [0];
        let length = journal.read(&mut first);
        let length = length.map_err(|error| Error::from_io("read", &self.directory().path_of(&name), &error))?;
        // SQLite decides by the first byte as well.
        Ok(length > 0 && first != [0])
    }

    /// Removes the shared memory that a connection in WAL mode left.
    pub fn remove_shared_memory(&self) -> Result<()> {
        self.directory().remove(&with_suffix(&self.name, "-shm")).map(drop)
    }

    /// Fails when something other than a regular file has a name of the index. SQLite would open it, and hang on a fifo.
    pub fn check_are_regular(&self) -> Result<()> {
        for suffix in SUFFIXES {
            if self.stat(suffix)?.is_some_and(|stat| !stat.is_regular) {
                let path = self.directory().path_of(&with_suffix(&self.name, suffix));
                let what = if path.is_dir() { "a directory" } else { "no regular file" };
                let cause =
                    format!("it is {what}, and must be a regular file; remove it, or choose another database name");
                return Err(Error::Index { operation: "open the index", path, cause });
            }
        }
        Ok(())
    }

    /// Whether this process may write the index's files, and create missing ones.
    pub fn may_write(&self) -> Result<bool> {
        Ok(self.directory().is_writable(OsStr::new("."))? && self.directory().is_writable(&self.name)?)
    }

    /// Truncates the index's files, which no handle has open, except the shared memory: a process that maps it all the same would
    /// be killed.
    pub fn truncate(&self) -> Result<()> {
        let mut truncated = SUFFIXES.into_iter().filter(|suffix| *suffix != "-shm");
        truncated.try_for_each(|suffix| self.directory().truncate(&with_suffix(&self.name, suffix)))
    }
}
