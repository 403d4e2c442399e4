//! Whether the index and the directory agree: images without an entry, entries without an image, and the index's own state.

use std::collections::BTreeSet;

use super::database::{self, Content};
use super::finding::{Findings, counted, printable};
use super::locks::seen_free;
use super::scan::Scan;
use super::{Examination, kind, reading};

/// How often differences are looked at again.
const REPEATED: usize = 3;

/// What one comparison found, by id.
#[derive(Debug, Default)]
struct Differences {
    orphans: BTreeSet<String>,
    phantoms: BTreeSet<String>,
    resized: BTreeSet<String>,
}

impl Differences {
    fn are_none(&self) -> bool {
        self.orphans.is_empty() && self.phantoms.is_empty() && self.resized.is_empty()
    }

    /// What the other one found as well.
    fn and(self, other: &Self) -> Self {
        let both = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.intersection(other).cloned().collect();
        Self {
            orphans: both(&self.orphans, &other.orphans),
            phantoms: both(&self.phantoms, &other.phantoms),
            resized: both(&self.resized, &other.resized),
        }
    }
}

pub fn check(scan: &Scan, examination: &Examination<'_>, findings: &mut Findings) {
    if !scan.uses_sqlite() {
        return;
    }
    let Some(mut differences) = compared(scan, findings) else { return };
    // A commit or a deletion that is under way meanwhile differs for a moment.
    for _ in 0..REPEATED {
        if differences.are_none() {
            return;
        }
        let lock_file = scan.own.as_ref().and_then(|own| reading::open_file(own, "lock").ok());
        let _ = lock_file.map(seen_free);
        let mut ignored = Findings::default();
        let again = Scan::of(examination, &mut ignored).and_then(|scan| compared(&scan, &mut ignored));
        if ignored.has(&kind::NOT_COMPARED) {
            let name = scan.database.display();
            findings.add(&kind::NOT_COMPARED, format!("'{name}' could be read once, and not again"));
        }
        differences = differences.and(&again.unwrap_or_default());
    }
    let Differences { orphans, phantoms, resized } = differences;
    let items = |ids: BTreeSet<String>| ids.into_iter().collect::<Vec<_>>();
    findings.add_if_any(&kind::ORPHANS, items(orphans), |count| {
        format!("{} no entry in '{}'", counted(count, "image has", "images have"), scan.database.display())
    });
    findings.add_if_any(&kind::PHANTOMS, items(phantoms), |count| {
        format!("{} in '{}' no file", counted(count, "entry has", "entries have"), scan.database.display())
    });
    findings.add_if_any(&kind::RESIZED, items(resized), |count| {
        format!("{} another size than the file", counted(count, "entry has", "entries have"))
    });
}

/// `None`, with a finding or none, when there is nothing to compare.
fn compared(scan: &Scan, findings: &mut Findings) -> Option<Differences> {
    let name = scan.database.display();
    match database::read(scan) {
        // Glance with xattr, or nobody yet: an index is created at the next open.
        Ok(None) if scan.driver.is_none() => None,
        Ok(None) => Some(differences(scan, &std::collections::HashMap::new())),
        Ok(Some(Content::Rows(rows))) => Some(differences(scan, &rows)),
        Ok(Some(Content::Damaged(why))) => {
            findings.add(&kind::DAMAGED_INDEX, format!("'{name}': {}", printable(&why)));
            None
        }
        Ok(Some(Content::Newer(version))) => {
            findings.add(&kind::NEWER_INDEX, format!("'{name}' has version {version}"));
            None
        }
        Ok(Some(Content::Foreign(why))) => {
            findings.add(&kind::FOREIGN_DATABASE, format!("'{name}': {}", printable(&why)));
            None
        }
        Err(why) => {
            findings.add(&kind::NOT_COMPARED, format!("'{name}' cannot be read: {}", printable(&why)));
            None
        }
    }
}

fn differences(scan: &Scan, rows: &std::collections::HashMap<std::ffi::OsString, i64>) -> Differences {
    let mut found = Differences::default();
    let mut present = std::collections::HashSet::new();
    for image in &scan.root.images {
        present.insert(&image.name);
        match rows.get(&image.name) {
            None => drop(found.orphans.insert(image.shown())),
            Some(size) if u64::try_from(*size) != Ok(image.size()) => drop(found.resized.insert(image.shown())),
            Some(_) => {}
        }
    }
    let missing = rows.keys().filter(|id| !present.contains(id));
    found.phantoms = missing.map(|id| id.to_string_lossy().into_owned()).collect();
    found
}
