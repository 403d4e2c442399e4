//! Whether a file is an index: of this library, of Glance, or of another program that has its name by chance.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::CWD;

use super::reading;

/// The columns of Glance's table.
const COLUMNS: [&str; 6] = ["image_id", "last_accessed", "last_modified", "size", "hits", "checksum"];

/// What each SQLite database begins with.
const HEADER: &[u8] = b"SQLite format 3\0";

/// What has the name of the index.
#[derive(Debug, PartialEq, Eq)]
pub enum IndexFile {
    /// Nothing, an empty file, or a database without tables.
    Empty,
    /// It has Glance's table.
    Index,
    /// A database with other tables.
    Foreign(String),
    /// A database that SQLite cannot read: it is damaged, or another program writes to it.
    Damaged,
    /// Something else.
    NoDatabase,
}

impl IndexFile {
    /// Looks at a file. It is not locked and not changed, and nothing is created beside it.
    pub fn of(path: &Path) -> io::Result<Self> {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {}
            Ok(metadata) if metadata.is_file() => return Ok(Self::Empty),
            Ok(_) => return Ok(Self::NoDatabase),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Empty),
            Err(error) => return Err(error),
        }
        if !begins_as_database(reading::open_file(CWD, path)?)? {
            return Ok(Self::NoDatabase);
        }
        Ok(match immutable(path).and_then(|connection| tables(&connection)) {
            Ok(Tables::Index) => Self::Index,
            Ok(Tables::Others(why)) => Self::Foreign(why),
            // An index got its tables before anything could put it into WAL mode.
            Ok(Tables::None) if has_log(path) => Self::Foreign("its tables are in its write-ahead log".to_owned()),
            Ok(Tables::None) => Self::Empty,
            Err(_) => Self::Damaged,
        })
    }
}

/// Whether a file begins as each database does.
pub fn begins_as_database(file: File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(HEADER.len() as u64).read_to_end(&mut start)?;
    Ok(start == HEADER)
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).symlink_metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Opens a database as one that never changes: SQLite locks nothing and creates nothing.
fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        let _ = match byte {
            b'/' | b'.' | b'-' | b'_' => write!(uri, "{}", char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => write!(uri, "{}", char::from(*byte)),
            byte => write!(uri, "%{byte:02x}"),
        };
    }
    uri += "?immutable=1";
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// The tables of a database.
#[derive(Debug, PartialEq, Eq)]
pub enum Tables {
    None,
    /// Glance's, with all of its columns.
    Index,
    /// What it has in place of them.
    Others(String),
}

/// Which tables a database has.
pub fn tables(connection: &Connection) -> rusqlite::Result<Tables> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = connection.prepare(sql)?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if tables.is_empty() {
        return Ok(Tables::None);
    }
    if !tables.iter().any(|table| table == "cached_images") {
        let why = format!("it has the tables {}, and not cached_images", tables.join(", "));
        return Ok(Tables::Others(why));
    }
    let missing: Vec<_> = COLUMNS.iter().filter(|column| !has_column(connection, column)).copied().collect();
    if missing.is_empty() {
        return Ok(Tables::Index);
    }
    Ok(Tables::Others(format!("its table cached_images lacks {}", missing.join(", "))))
}

fn has_column(connection: &Connection, column: &str) -> bool {
    let sql = "SELECT count(*) FROM pragma_table_info('cached_images') WHERE name = ?1";
    connection.query_row(sql, [column], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 1)
}
