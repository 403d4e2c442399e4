//! Whether this user can use the cache: owners, modes, kinds of files, and whether the directory is a cache at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{Access, AtFlags, FileType, Stat, accessat};
use rustix::io::Errno;

use super::finding::{Findings, counted};
use super::foreign::begins_as_database;
use super::scan::{BESIDE, DATABASE, OWN, SUBDIRECTORIES, Scan};
use super::{kind, reading};

/// The files in `.image_cache` that every agent writes.
const WRITTEN: [&str; 3] = ["lock", "statistics", "ledger"];

pub fn check(scan: &Scan, findings: &mut Findings) {
    check_kinds(scan, findings);
    check_is_a_cache(scan, findings);
    if findings.has(&kind::NO_CACHE) {
        return;
    }
    check_writable(scan, findings);
    check_own_files(scan, findings);
    check_images(scan, findings);
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whose rights are examined.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// The effective user's: the kernel answers.
    User(u32),
    /// Root may do everything. What counts is whether the owner of the directory may: by owners and modes only.
    Owner { user: u32, group: u32 },
}

impl Who {
    fn of(scan: &Scan) -> Self {
        let (user, owner) = (rustix::process::geteuid(), scan.root.stat.st_uid);
        if user.is_root() && owner != 0 {
            return Self::Owner { user: owner, group: scan.root.stat.st_gid };
        }
        Self::User(user.as_raw())
    }

    fn number(self) -> u32 {
        match self {
            Self::User(user) | Self::Owner { user, .. } => user,
        }
    }

    /// Whether he has an access. A read-only file system is another finding.
    fn may(self, directory: impl AsFd, name: impl AsRef<OsStr>, stat: &Stat, access: Access) -> bool {
        match self {
            Self::User(_) => {
                let answer = accessat(directory, name.as_ref(), access, AtFlags::EACCESS);
                !matches!(answer, Err(Errno::ACCESS | Errno::PERM))
            }
            Self::Owner { user, group } => {
                let shift = match (stat.st_uid == user, stat.st_gid == group) {
                    (true, _) => 6,
                    (false, true) => 3,
                    (false, false) => 0,
                };
                let wanted = u32::try_from(access.bits()).unwrap_or(0);
                (stat.st_mode >> shift) & wanted == wanted
            }
        }
    }
}

/// Mode, owner and group, as text.
pub fn described(stat: &Stat) -> String {
    format!("mode {:04o}, owner {}, group {}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// The parts of a cache are what they should be.
fn check_kinds(scan: &Scan, findings: &mut Findings) {
    let mut wrong = Vec::new();
    let mut expect = |name: &OsStr, wanted: FileType| {
        if let Ok(Some(stat)) = reading::status(&scan.root.descriptor, name)
            && file_type(&stat) != wanted
        {
            wrong.push(format!(
                "{}: is not a {}",
                name.display(),
                if wanted == FileType::Directory { "directory" } else { "file" }
            ));
        }
    };
    for name in SUBDIRECTORIES.into_iter().chain([OWN]) {
        expect(OsStr::new(name), FileType::Directory);
    }
    expect(&scan.database, FileType::RegularFile);
    expect(OsStr::new(".image_cache/lock"), FileType::RegularFile);
    findings.add_if_any(&kind::WRONG_TYPE, wrong, |count| {
        format!("{} of the wrong kind", counted(count, "part is", "parts are"))
    });
}

/// The library refuses a directory of other programs: see `store::recognise`.
fn check_is_a_cache(scan: &Scan, findings: &mut Findings) {
    let has_database = [OsStr::new(DATABASE), &scan.database].iter().any(|name| {
        match reading::open_file(&scan.root.descriptor, name) {
            Ok(file) => begins_as_database(file).unwrap_or(true),
            Err(errno) => errno != Errno::NOENT,
        }
    });
    let has_own = matches!(reading::status(&scan.root.descriptor, OWN), Ok(Some(_)));
    if !has_own {
        let visible = scan.root.images.iter().map(|image| image.name.clone()).chain(scan.root.others.iter().cloned());
        let visible: Vec<_> = visible.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect();
        if !has_database && scan.areas.len() < SUBDIRECTORIES.len() && !visible.is_empty() {
            let names: Vec<_> = visible.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            findings.add_if_any(&kind::NO_CACHE, names, |count| {
                format!(
                    "it has {}, but neither {OWN} nor an index nor all three subdirectories",
                    counted(count, "entry", "entries")
                )
            });
            return;
        }
        let is_empty = scan.areas.is_empty() && visible.is_empty() && !has_database;
        let what =
            if is_empty { "it is empty: 'create' makes a cache there" } else { "Glance filled it, or another program" };
        findings.add(&kind::NEVER_OPENED, what);
    }
    let others = scan.all().flat_map(|area| {
        let separator = if area.name.is_empty() { "" } else { "/" };
        area.others.iter().map(move |name| format!("{}{separator}{}", area.name, name.to_string_lossy()))
    });
    findings.add_if_any(&kind::NO_IMAGE, others.collect(), |count| {
        format!("{} no valid id as a name, or no regular file", counted(count, "entry has", "entries have"))
    });
}

fn check_writable(scan: &Scan, findings: &mut Findings) {
    let who = Who::of(scan);
    let mut closed = Vec::new();
    let mut open_to_all = Vec::new();
    let mut note = |name: &str, stat: &Stat, may_write: bool| {
        let path = if name.is_empty() { scan.path.clone() } else { scan.path.join(name) };
        if !may_write {
            closed.push(format!("{}: {}", path.display(), described(stat)));
        }
        if stat.st_mode & 0o002 != 0 {
            open_to_all.push(format!("{}: {}", path.display(), described(stat)));
        }
    };
    for area in scan.all() {
        note(area.name, &area.stat, who.may(&area.descriptor, ".", &area.stat, Access::WRITE_OK | Access::EXEC_OK));
    }
    if let Some((own, stat)) = scan.own.as_ref().and_then(|own| Some((own, rustix::fs::fstat(own).ok()?))) {
        note(OWN, &stat, who.may(own, ".", &stat, Access::WRITE_OK | Access::EXEC_OK));
    }
    let user = who.number();
    findings.add_if_any(&kind::READ_ONLY_USER, closed, |count| {
        format!("user {user} may not write in {}", counted(count, "directory", "directories"))
    });
    findings.add_if_any(&kind::OPEN_TO_ALL, open_to_all, |count| {
        format!("others may write in {}", counted(count, "directory", "directories"))
    });
}

/// The lock file, the records and the index: who may read them must be who may write them.
fn check_own_files(scan: &Scan, findings: &mut Findings) {
    let who = Who::of(scan);
    let own = WRITTEN.iter().map(|name| format!("{OWN}/{name}"));
    let names = own.map(Into::into).chain(database_files(scan)).collect::<Vec<std::ffi::OsString>>();
    let (mut closed, mut readable) = (Vec::new(), Vec::new());
    for name in names {
        let stat = match reading::status(&scan.root.descriptor, &name) {
            Ok(Some(stat)) if file_type(&stat) == FileType::RegularFile => stat,
            _ => continue,
        };
        let shown = format!("{}: {}", name.display(), described(&stat));
        if !who.may(&scan.root.descriptor, &name, &stat, Access::READ_OK | Access::WRITE_OK) {
            closed.push(shown.clone());
        }
        // The statistics and the limit are read by everyone.
        let is_locked = !name.as_encoded_bytes().ends_with(b"/statistics");
        let (read, write) = (stat.st_mode & 0o044, stat.st_mode & 0o022);
        if is_locked && read & !(write << 1) != 0 {
            readable.push(shown);
        }
    }
    let user = who.number();
    findings.add_if_any(&kind::OWN_FILES, closed, |count| {
        format!("user {user} may not read and write {}", counted(count, "file", "files"))
    });
    findings.add_if_any(&kind::READABLE_LOCK, readable, |count| {
        format!("{} by users who may not write", counted(count, "file can be read", "files can be read"))
    });
}

/// The database, and what SQLite has beside it.
pub fn database_files(scan: &Scan) -> Vec<std::ffi::OsString> {
    if !scan.uses_sqlite() {
        return Vec::new();
    }
    let beside = BESIDE.iter().map(|suffix| {
        let mut name = scan.database.clone();
        name.push(suffix);
        name
    });
    std::iter::once(scan.database.clone()).chain(beside).collect()
}

fn check_images(scan: &Scan, findings: &mut Findings) {
    let who = Who::of(scan);
    let mut unreadable = Vec::new();
    let mut owners = BTreeMap::<u32, usize>::new();
    for image in &scan.root.images {
        *owners.entry(image.stat.st_uid).or_default() += 1;
        if !who.may(&scan.root.descriptor, &image.name, &image.stat, Access::READ_OK) {
            unreadable.push(format!("{}: {}", image.shown(), described(&image.stat)));
        }
    }
    let user = who.number();
    findings.add_if_any(&kind::UNREADABLE, unreadable, |count| {
        format!("user {user} may not read {}", counted(count, "image", "images"))
    });
    if owners.len() > 1 {
        let items = owners.iter().map(|(owner, count)| format!("user {owner}: {}", counted(*count, "image", "images")));
        findings.add_items(&kind::OTHER_OWNERS, format!("{} users own images", owners.len()), items.collect());
    }
}
