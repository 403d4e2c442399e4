//! A copy of the SQLite driver's index, to be read. SQLite would create and lock files beside the original, and change its access time.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::{Stat, fstat, statvfs};

use super::access::database_files;
use super::foreign::{Tables, tables};
use super::locks::seen_free;
use super::reading;
use super::scan::Scan;
use crate::units::size;

/// How often the copy is made again, if the index changes meanwhile.
const ATTEMPTS: usize = 20;

/// A larger index is not copied.
const MOST: u64 = 4 << 30;

/// The version of our tables.
const VERSION: i64 = 1;

/// What a copy shows.
#[derive(Debug)]
pub enum Content {
    /// The images and their sizes.
    Rows(HashMap<OsString, i64>),
    Damaged(String),
    Newer(i64),
    /// What it has in place of our tables.
    Foreign(String),
}

/// Reads the index; `None` when there is none. The error says why it cannot be read.
pub fn read(scan: &Scan) -> Result<Option<Content>, String> {
    match reading::status(&scan.root.descriptor, &scan.database) {
        Ok(Some(stat)) if stat.st_size > 0 => {}
        Ok(_) => return Ok(None),
        Err(errno) => return Err(errno.to_string()),
    }
    let scratch = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    check_room(scan, scratch.path())?;
    let lock_file = scan.own.as_ref().and_then(|own| reading::open_file(own, "lock").ok());
    for _ in 0..ATTEMPTS {
        // A large index takes longer to copy than the time between two changes; a small one fits in between.
        let _ = lock_file.as_ref().map(seen_free);
        if copy(scan, scratch.path()).map_err(|error| error.to_string())? {
            return content(&scratch.path().join("index")).map(Some);
        }
    }
    Err("other processes write to it all the time".to_owned())
}

/// Fails for an index whose copy could fill the disk. A copy may have no holes, and SQLite rolls back in it.
fn check_room(scan: &Scan, target: &Path) -> Result<(), String> {
    let room = statvfs(target).map_err(|errno| errno.to_string())?;
    let most = MOST.min(room.f_bavail.saturating_mul(room.f_frsize) / 2);
    let length = |name: &OsString| match reading::status(&scan.root.descriptor, name) {
        Ok(Some(stat)) => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    };
    let all = database_files(scan).iter().map(length).fold(0, u64::saturating_add);
    if all > most {
        let (all, most, target) = (size(all), size(most), target.parent().unwrap_or(target).display());
        return Err(format!("its files have {all}, and a copy in '{target}' may have {most}"));
    }
    Ok(())
}

/// Whether a copy is of one moment.
fn copy(scan: &Scan, target: &Path) -> io::Result<bool> {
    let mut copied: Vec<(File, Stat)> = Vec::new();
    for (name, suffix) in database_files(scan).iter().zip(["", "-journal", "-wal"]) {
        let to = target.join(format!("index{suffix}"));
        let source = match reading::open_file(&scan.root.descriptor, name) {
            Ok(source) => source,
            Err(rustix::io::Errno::NOENT) if !suffix.is_empty() => {
                let _ = std::fs::remove_file(to);
                continue;
            }
            Err(errno) => return Err(errno.into()),
        };
        let before = fstat(&source)?;
        // No more than was checked, if the index grows meanwhile.
        let length = u64::try_from(before.st_size).unwrap_or(0);
        io::copy(&mut (&source).take(length), &mut File::create(to)?)?;
        copied.push((source, before));
    }
    for (source, before) in &copied {
        let now = fstat(source)?;
        let moment = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        if moment(&now) != moment(before) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The error says why the copy cannot be read, though the index may be intact.
fn content(path: &Path) -> Result<Content, String> {
    match query(path) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Err(error.to_string()),
        queried => Ok(queried.unwrap_or_else(|error| Content::Damaged(error.to_string()))),
    }
}

fn query(path: &Path) -> rusqlite::Result<Content> {
    let connection = Connection::open(path)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match tables(&connection)? {
        Tables::None => return Ok(Content::Rows(HashMap::new())),
        Tables::Others(why) => return Ok(Content::Foreign(why)),
        Tables::Index => {}
    }
    // Glance leaves the version at 0.
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'image_cache_state'";
    let is_ours = connection.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0;
    if version > VERSION && is_ours {
        return Ok(Content::Newer(version));
    }
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Ok(Content::Damaged(check));
    }
    let mut statement =
        connection.prepare("SELECT CAST(image_id AS TEXT), CAST(size AS INTEGER) FROM cached_images")?;
    let mut rows = HashMap::new();
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let id: Option<String> = row.get(0)?;
        let size: Option<i64> = row.get(1)?;
        rows.insert(id.unwrap_or_default().into(), size.unwrap_or(-1));
    }
    Ok(Content::Rows(rows))
}
