//! The kinds of findings. A number never changes its meaning, and is never used again. `docs/doctor.md` has a section for each;
//! a test compares its number, severity and title.

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cache, or a part of it, does not work for this user.
    Error,
    /// It works, but not as well as it can, or not for long.
    Warning,
    /// Worth to know. Nothing has to be done.
    Info,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What `--fix` does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// Opens the cache: the library then repairs its index and its own files.
    Open,
    /// Opens and cleans it.
    Clean,
    /// Nothing, and nothing else either: an open could destroy what the operator may want to keep.
    Refuse,
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    pub number: &'static str,
    pub severity: Severity,
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
    pub remedy: Remedy,
}

macro_rules! kinds {
    ($($name:ident, $number:literal, $severity:ident, $remedy:ident, $title:literal, $advice:literal;)*) => {
        $(pub const $name: Kind = Kind {
            number: $number,
            severity: Severity::$severity,
            title: $title,
            advice: $advice,
            remedy: Remedy::$remedy,
        };)*

        /// All of them, by number.
        #[cfg(test)]
        pub const ALL: &[Kind] = &[$($name),*];
    };
}

kinds! {
    MISSING, "IC001", Error, Refuse, "The directory does not exist",
        "Check the path. image-cachectl create makes a cache there, but not the directory's parent.";
    CLOSED, "IC002", Error, Refuse, "This user may not read the directory",
        "Give the user read and search permission (r-x) for the directory, and x for each parent.";
    NO_CACHE, "IC003", Error, Refuse, "The directory is not a cache",
        "Name the cache's directory, or an empty one. Files of other programs would count as images, and be pruned.";
    UNOPENABLE, "IC004", Error, None, "The cache cannot be opened",
        "Read the message. The other findings usually name the cause.";
    WRONG_TYPE, "IC005", Error, Refuse, "Something else has the name of a part of the cache",
        "Move it away, and open the cache again: it creates its own parts.";
    SPLIT, "IC006", Error, Refuse, "A subdirectory is on another file system or mount",
        "Unmount it, or make it an ordinary directory: an image is moved between them by one rename.";
    NEVER_OPENED, "IC007", Info, None, "This library has never opened the directory",
        "Nothing, if Glance filled it: see docs/glance.md. Open it with the driver that Glance used.";
    NO_IMAGE, "IC008", Info, None, "Some entries are not images",
        "They are ignored, and never removed. Move them away if they take up room.";
    READ_ONLY_USER, "IC010", Error, None, "This user may not write in a directory of the cache",
        "Give the user's group write permission for it (chgrp, chmod g+w). Until then this user can only read images.";
    OWN_FILES, "IC011", Error, None, "This user may not write a file of the cache",
        "Run all agents as one user, or give the file to a common group (chgrp, chmod g+rw).";
    UNREADABLE, "IC012", Error, None, "This user may not read some images",
        "Give read permission (chmod g+r or o+r), or let the agent run with a wider umask.";
    READABLE_LOCK, "IC013", Warning, Open, "Users who may not write a file of the cache may read it",
        "Use --fix, or remove the read permission: a lock by such a user stops all writers.";
    OPEN_TO_ALL, "IC014", Warning, None, "Every user may change the cache",
        "Remove the write permission of others (chmod o-w): any user can replace an image that guests boot.";
    OTHER_OWNERS, "IC015", Info, None, "Images belong to several users",
        "Only a file's owner can record an access in it. Run all agents as one user if the order of eviction matters.";
    NETWORK, "IC020", Error, None, "The directory is on a network file system",
        "Move the cache to a local disk. Its locks work on one host only.";
    OVERLAY, "IC021", Warning, None, "The directory is on overlayfs",
        "Put the cache on a volume of its own. Here accesses are not recorded in the images' files.";
    NO_ATTRIBUTES, "IC022", Warning, None, "The file system has no user extended attributes",
        "Use a file system that has them. Until then every commit syncs, and digests are lost with the index.";
    NO_XATTR_DRIVER, "IC023", Error, Refuse, "The xattr driver has no extended attributes to use",
        "Mount a file system with user attributes there, or convert the cache to the SQLite driver.";
    MOUNTED_READ_ONLY, "IC024", Warning, None, "The file system is mounted read-only",
        "Look for errors of the disk in the kernel's log. Remount it to write: until then images can only be read.";
    FULL, "IC030", Warning, None, "The file system is almost full",
        "Prune, lower the limit, or set min_free so that images are evicted before the disk is full.";
    NO_INODES, "IC031", Warning, None, "The file system has almost no inodes left",
        "Remove small files, or prune. An image needs one inode, and an open cache a few more.";
    LIMIT_TOO_HIGH, "IC032", Warning, None, "The hard limit is more than the disk can hold",
        "Lower the limit: image-cachectl limit. Else the disk gets full before anything is evicted.";
    FAILED_FETCHES, "IC033", Info, Clean, "Failed fetches take up room",
        "Read why they failed (image-cachectl list --invalid), then clean.";
    ORPHANS, "IC040", Warning, Open, "Images have no entry in the index",
        "Move away files that are not images. The next list, prune or clean adds the others; --fix does it now. Their hits are lost.";
    PHANTOMS, "IC041", Warning, Open, "The index has entries without a file",
        "Nothing: the next list, prune or clean drops them. --fix does it now.";
    RESIZED, "IC042", Warning, Open, "The index has another size than the file",
        "Verify these images (image-cachectl verify ID): something changed the files in place. Then use --fix.";
    DAMAGED_INDEX, "IC043", Error, Open, "The index is damaged",
        "Use --fix: the index is rebuilt from the files. Hits may be lost. Check the disk.";
    NEWER_INDEX, "IC044", Error, Refuse, "The index is of a newer version",
        "Update this library. An index of a newer version is left as it is.";
    FOREIGN_DATABASE, "IC045", Error, Refuse, "The index is another program's database",
        "Move it away, or name another database. An open would add our tables to it.";
    SECOND_DRIVER, "IC046", Warning, None, "Another driver was used here as well",
        "Use one driver for all agents. Remove what the other one left, once nothing uses it.";
    WRONG_LENGTH, "IC047", Error, None, "Images have another length than at their commit",
        "Delete them, and fetch them again. They are not served.";
    NOT_COMPARED, "IC048", Info, None, "The index could not be compared",
        "Run doctor as the user of the agent, when the cache is less busy, or with TMPDIR on a larger disk.";
    HALF_CONVERTED, "IC049", Warning, None, "A conversion to another driver is not finished",
        "Run image-cachectl convert again, with the driver that the directory has now: it carries over the remaining hits.";
    DEAD_WRITERS, "IC050", Warning, Clean, "Dead writers left files",
        "Clean, or nothing: the next writer of the image replaces the file at once.";
    STALLED_WRITERS, "IC051", Warning, Clean, "Writers write nothing for a long time",
        "Look at the process. Clean removes the file, so that another writer can fetch the image.";
    STOPPED, "IC052", Warning, None, "A process that uses the cache is stopped",
        "Continue it (kill -CONT) or end it. Until then others may wait for its locks.";
    LOCKED, "IC053", Error, None, "The cache lock is never free",
        "Look for a stopped or hanging process (IC052), and end it. Readers do not wait for this lock.";
    FOREIGN_WRITERS, "IC054", Warning, Clean, "Another program left incomplete files",
        "Look whether Glance still runs. Clean removes the files.";
    LEFT_STREAMS, "IC055", Info, None, "Streams left fetches that can be resumed",
        "Nothing: the next stream of the image resumes the fetch. Clean removes it after the stall time.";
    FUTURE, "IC060", Warning, None, "Files have times in the future",
        "Check the clock (timedatectl). The library treats such an access as older: it corrects these times at a prune.";
    NO_LOCKS, "IC070", Error, None, "The kernel has no open file description locks",
        "Use Linux 3.15 or newer, or a sandbox that permits F_OFD_SETLK. The cache cannot be written here.";
    NO_FEATURE, "IC071", Info, None, "The kernel or file system lacks a feature",
        "docs/kernel-features.md says what the library does without it.";
    NO_PROC, "IC072", Warning, None, "/proc is not mounted",
        "Mount it. Without it every commit syncs, and the index is compared at every first open.";
    GLANCE, "IC080", Info, None, "Glance uses the directory",
        "Nothing. Glance prunes by its own limit: docs/glance.md has the rules.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_in_order() {
        assert!(ALL.len() > 40 && ALL.windows(2).all(|two| two[0].number < two[1].number));
    }

    /// The sections of the page: number, title, severity.
    fn sections(page: &str) -> Vec<(&str, &str, &str)> {
        let mut lines = page.lines();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let Some((number, title)) = line.strip_prefix("### ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            let text = lines.by_ref().find(|line| !line.is_empty()).unwrap_or_default();
            found.push((number, title, text.split_once('.').map_or("", |(severity, _)| severity)));
        }
        found
    }

    #[test]
    fn the_page_has_a_section_for_each_number_and_no_other() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md")).unwrap();
        let known: Vec<_> = ALL.iter().map(|kind| (kind.number, kind.title, kind.severity.name())).collect();
        let sections = sections(&page);
        let sections: Vec<_> = sections.iter().map(|(n, t, s)| (*n, *t, s.to_lowercase())).collect();
        assert_eq!(sections, known.iter().map(|(n, t, s)| (*n, *t, (*s).to_owned())).collect::<Vec<_>>());
    }
}
