//! The tables of the index, and the repair of a schema that another program or a bad disk changed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rusqlite::{Connection, TransactionBehavior};

use crate::index::sqlite::sql::SqlResult;
use crate::log::Log;

/// The schema's version, in the database's `user_version`, where Glance has 0.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// Glance's table comes first, with its names. The rest is ours.
///
/// Triggers keep the totals right whichever program writes the table. They also clear the stamp (`seal`), which our own
/// transactions set again: after another program inserted, deleted, renamed or resized rows, the index is compared with the
/// directory. Other programs may write any size. Totals that exceed an integer of SQLite are -1 until a rebuild computes them.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cached_images (
        image_id TEXT PRIMARY KEY,
        last_accessed REAL DEFAULT 0.0,
        last_modified REAL DEFAULT 0.0,
        size INTEGER DEFAULT 0,
        hits INTEGER DEFAULT 0,
        checksum TEXT
    );
    -- One row: the totals, and the stamp of the directory with which the rows agree.
    CREATE TABLE IF NOT EXISTS image_cache_state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        images INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        seal INTEGER
    );
    INSERT OR IGNORE INTO image_cache_state (id, images, bytes) VALUES (1, 0, 0);
    CREATE INDEX image_cache_by_use ON cached_images (ifnull(last_accessed, 0), image_id);
    CREATE TRIGGER image_cache_inserted AFTER INSERT ON cached_images BEGIN
        UPDATE image_cache_state SET images = images + 1, seal = NULL, bytes = CASE
            WHEN bytes < 0 OR typeof(bytes + ifnull(NEW.size, 0)) <> 'integer' THEN -1
            ELSE bytes + ifnull(NEW.size, 0) END WHERE id = 1;
    END;
    CREATE TRIGGER image_cache_deleted AFTER DELETE ON cached_images BEGIN
        UPDATE image_cache_state SET images = images - 1, seal = NULL, bytes = CASE
            WHEN bytes < 0 OR typeof(bytes - ifnull(OLD.size, 0)) <> 'integer' THEN -1
            ELSE bytes - ifnull(OLD.size, 0) END WHERE id = 1;
    END;
    CREATE TRIGGER image_cache_changed AFTER UPDATE OF image_id, size ON cached_images BEGIN
        UPDATE image_cache_state SET seal = NULL, bytes = CASE
            WHEN bytes < 0 OR typeof(bytes + ifnull(NEW.size, 0) - ifnull(OLD.size, 0)) <> 'integer' THEN -1
            ELSE bytes + ifnull(NEW.size, 0) - ifnull(OLD.size, 0) END WHERE id = 1;
    END;
    PRAGMA user_version = 1;
";

/// A table, index or trigger: its kind, its table and the essence of its SQL.
type Object = (String, String, Vec<u8>);
type Objects = BTreeMap<String, Object>;

pub(super) fn version(connection: &Connection) -> SqlResult<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Creates what is missing in the schema. Drops indexes and triggers that are not ours: they could make every statement fail, return
/// wrong rows, or never end. True when that was necessary. `None` when a table differs: then the database must be emptied.
pub(super) fn repair(connection: &mut Connection, log: &Log) -> SqlResult<Option<bool>> {
    let present = objects(connection)?;
    if present == *expected()? && version(connection)? == SCHEMA_VERSION {
        return Ok(Some(false));
    }
    let is_table = |object: &Object| object.0 == "table";
    for (name, object) in &present {
        if expected()?.get(name).is_none_or(|ours| ours != object) && (is_table(object) || object.0 == "view") {
            return Ok(None);
        }
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (name, (kind, ..)) in present.iter().filter(|(_, object)| !is_table(object)) {
        let quoted = name.replace('"', "\"\"");
        transaction.execute_batch(&format!("DROP {kind} IF EXISTS \"{quoted}\""))?;
    }
    transaction.execute_batch(SCHEMA)?;
    // Without the triggers, neither totals nor stamp were kept.
    transaction.execute_batch("UPDATE image_cache_state SET seal = NULL")?;
    transaction.commit()?;
    if present.contains_key("image_cache_state") {
        log.warning(|| "the index had foreign triggers or indexes; they were dropped".to_owned());
    }
    Ok(Some(true))
}

/// The schema of a database that no other program changed.
fn expected() -> SqlResult<&'static Objects> {
    static EXPECTED: OnceLock<Objects> = OnceLock::new();
    if let Some(expected) = EXPECTED.get() {
        return Ok(expected);
    }
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(SCHEMA)?;
    let objects = objects(&connection)?;
    Ok(EXPECTED.get_or_init(|| objects))
}

/// The two tables and everything on them, by name, except what SQLite creates itself.
fn objects(connection: &Connection) -> SqlResult<Objects> {
    let mut select = connection.prepare(
        "SELECT CAST(name AS TEXT), CAST(type AS TEXT), lower(tbl_name), CAST(sql AS TEXT) FROM sqlite_schema
         WHERE sql IS NOT NULL AND lower(tbl_name) IN ('cached_images', 'image_cache_state')",
    )?;
    let objects = select.query_map([], |row| {
        let text = row.get::<_, String>(3)?;
        Ok((row.get(0)?, (row.get(1)?, row.get(2)?, essence(&text))))
    })?;
    objects.collect()
}

/// A statement without insignificant characters: Glance's has other white space.
fn essence(statement: &str) -> Vec<u8> {
    let is_essential = |letter: &u8| !letter.is_ascii_whitespace() && !matches!(letter, b'"' | b'`' | b'[' | b']');
    statement.bytes().filter(is_essential).map(|letter| letter.to_ascii_lowercase()).collect()
}
