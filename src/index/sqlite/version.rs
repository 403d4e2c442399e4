//! Which versions of SQLite are used. The bundled one is; the host's, which the feature `system-sqlite` links, may be too old, and
//! can change after the build.
//!
//! Versions before 3.51.3 can corrupt a database in WAL mode when two processes reach a checkpoint at the same moment
//! (sqlite.org/wal.html, "the WAL-reset bug"). Another program can turn the index to that mode. 3.50.7 has a backport. So has 3.44.6,
//! which is older than the functions that the library links. A distribution that fixes another version under its old number cannot
//! be told from one that does not: it is refused.

use crate::error::{Error, Result};

#[cfg(all(feature = "bundled-sqlite", feature = "system-sqlite"))]
compile_error!(
    "the feature system-sqlite replaces bundled-sqlite: build with --no-default-features --features system-sqlite"
);
#[cfg(not(any(feature = "bundled-sqlite", feature = "system-sqlite")))]
compile_error!("one of the features bundled-sqlite and system-sqlite is needed");

/// [`Error::Unsupported`] when the loaded SQLite can corrupt an index.
pub(super) fn check() -> Result<()> {
    if is_safe(rusqlite::version_number()) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "the host's SQLite {} can corrupt an index (its WAL-reset bug): the SQLite driver needs 3.51.3 or later, or 3.50.7; update \
         SQLite, or build the library with its own (feature bundled-sqlite), or use the xattr driver",
        rusqlite::version()
    )))
}

/// `number`: major * 1,000,000 + minor * 1,000 + patch.
const fn is_safe(number: i32) -> bool {
    number >= 3_051_003 || (number >= 3_050_007 && number < 3_051_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_the_fix_of_wal_mode_are_refused() {
        for unsafe_version in [3_040_001, 3_044_006, 3_046_001, 3_050_006, 3_051_000, 3_051_002, 0, -1] {
            assert!(!is_safe(unsafe_version), "{unsafe_version}");
        }
        for safe_version in [3_050_007, 3_050_999, 3_051_003, 3_053_001, 4_000_000] {
            assert!(is_safe(safe_version), "{safe_version}");
        }
    }

    #[test]
    #[cfg(feature = "bundled-sqlite")]
    fn the_bundled_version_is_safe() {
        check().unwrap();
    }
}
