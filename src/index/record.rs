//! The record of the driver that a directory is used with, in `.image_cache/driver`. With another driver, or another name of the
//! database, all hits would silently be 0, and the former database would count as an image.
//!
//! Its text is `xattr`, or `sqlite` and the name of the database.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::error::{Error, Result};
use crate::index::driver::{DriverChoice, DriverKind, DriverRequest};
use crate::log::Log;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::own_files;

const NAME: &str = "driver";
const XATTR: &str = "xattr";
const SQLITE: &str = "sqlite ";

/// A driver, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DriverRecord {
    Xattr,
    Sqlite { database: OsString },
}

impl DriverRecord {
    /// The record of a driver in use.
    pub fn new(kind: DriverKind, database: &OsStr) -> Self {
        match kind {
            DriverKind::Xattr => Self::Xattr,
            DriverKind::Sqlite => Self::Sqlite { database: database.to_owned() },
        }
    }

    /// The record of a directory; `None` when it was not used yet, or by Glance only.
    pub fn of(layout: &Layout) -> Result<Option<Self>> {
        Ok(own_files::read(layout, NAME)?.and_then(|text| Self::parse(&text)))
    }

    /// Text that is not ours counts as none.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\n")?;
        if text == XATTR.as_bytes() {
            return Some(Self::Xattr);
        }
        let database = text.strip_prefix(SQLITE.as_bytes())?;
        (!database.is_empty()).then(|| Self::Sqlite { database: OsString::from_vec(database.to_owned()) })
    }

    fn text(&self) -> Vec<u8> {
        match self {
            Self::Xattr => format!("{XATTR}\n").into_bytes(),
            Self::Sqlite { database } => [SQLITE.as_bytes(), database.as_bytes(), b"\n"].concat(),
        }
    }

    /// Records the driver in use, unless it is recorded. A handle that may not write leaves that to others.
    pub fn store(&self, layout: &Layout, lock: &CacheLockGuard<'_>, recorded: Option<&Self>, log: &Log) {
        if recorded == Some(self) {
            return;
        }
        match own_files::write(layout, lock, NAME, &self.text()) {
            Err(error) if !error.is_not_permitted() => {
                log.warning(|| format!("{error}; the driver is recorded at a later open"));
            }
            _ => {}
        }
    }

    /// The driver to open. Fails when the options contradict the record.
    pub fn choose(
        recorded: Option<&Self>,
        request: DriverRequest,
        database: &OsStr,
        layout: &Layout,
    ) -> Result<DriverChoice> {
        let Some(recorded) = recorded.filter(|_| !request.may_change) else { return Ok(request.choice) };
        let asked = match (request.choice, recorded) {
            (DriverChoice::Xattr, _) | (DriverChoice::XattrOrSqlite, Self::Xattr) => DriverKind::Xattr,
            (DriverChoice::Sqlite, _) | (DriverChoice::XattrOrSqlite, Self::Sqlite { .. }) => DriverKind::Sqlite,
        };
        let asked_record = Self::new(asked, database);
        if asked_record != *recorded {
            return Err(Error::InvalidArgument(format!(
                "the cache is used with {}, and was to be opened with {}. Open it with the former, or set the option \
                 change_driver, which loses its hits: '{}'",
                recorded.shown(),
                asked_record.shown(),
                layout.directory(Area::Cached).path().display()
            )));
        }
        Ok(match request.choice {
            // Where the attributes are gone, as after a copy to another file system, SQLite is used after all.
            DriverChoice::XattrOrSqlite if asked == DriverKind::Sqlite => DriverChoice::Sqlite,
            choice => choice,
        })
    }

    fn shown(&self) -> String {
        match self {
            Self::Xattr => "the xattr driver".to_owned(),
            Self::Sqlite { database } => format!("the SQLite driver and the database '{}'", database.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_other_text_is_none() {
        let records = [
            DriverRecord::Xattr,
            DriverRecord::Sqlite { database: "cache.db".into() },
            DriverRecord::Sqlite { database: OsString::from_vec(b"a\n \xff".to_vec()) },
        ];
        for record in records {
            assert_eq!(DriverRecord::parse(&record.text()), Some(record));
        }
        for text in ["", "xattr", "sqlite\n", "sqlite \n", "sqlite cache.db", "xattr \n"] {
            assert_eq!(DriverRecord::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
