//! The directories whose index is open in this process, or was open in the process that forked it.
//!
//! SQLite records, once per process, which locks it holds on which file. A forked child inherits that record without the locks:
//! a connection that the child opens to the same file relies on locks that do not exist, and damages the file. So a child must
//! not open an index that was open at the fork. The registry is as process-wide as SQLite's record. It has no lock, which a
//! child could inherit in the locked state: entries are prepended atomically, reused, and never freed.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::sys::process::ProcessInstance;
use crate::sys::stat::FileId;

static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());

/// No process has this number: the entry is free.
const FREE: u64 = 0;
/// No process has this number either: the entry is being filled.
const RESERVED: u64 = u64::MAX;

#[derive(Debug)]
struct Entry {
    /// The process that opened the index.
    owner: AtomicU64,
    /// The owner's process id, for messages.
    process: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
    next: AtomicPtr<Entry>,
}

/// Registers an open index until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRegistration(&'static Entry);

impl OpenRegistration {
    /// Registers the index of a directory as open in this process.
    ///
    /// Fails with the id of the process that had it open when it forked this one.
    pub fn new(directory: FileId) -> Result<Self, u32> {
        let present = ProcessInstance::current().as_number();
        let FileId { device, inode } = directory;
        let inherited = entries().find_map(|entry| {
            let owner = entry.owner.load(Ordering::Acquire);
            let is_same =
                entry.device.load(Ordering::Relaxed) == device && entry.inode.load(Ordering::Relaxed) == inode;
            (is_same && ![FREE, RESERVED, present].contains(&owner)).then(|| entry.process.load(Ordering::Relaxed))
        });
        if let Some(owner) = inherited {
            return Err(owner);
        }
        let entry = reserve();
        entry.device.store(device, Ordering::Relaxed);
        entry.inode.store(inode, Ordering::Relaxed);
        entry.process.store(std::process::id(), Ordering::Relaxed);
        entry.owner.store(present, Ordering::Release);
        Ok(Self(entry))
    }
}

impl Drop for OpenRegistration {
    fn drop(&mut self) {
        self.0.owner.store(FREE, Ordering::Release);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    std::iter::successors(follow(&ENTRIES), |entry| follow(&entry.next))
}

#[allow(unsafe_code, reason = "a list without a lock")]
fn follow(pointer: &AtomicPtr<Entry>) -> Option<&'static Entry> {
    // SAFETY: it is null, or an entry that `reserve` leaked: it is never freed, and all of its fields are atomics.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

/// Reserves an entry: a free one, or a new one at the head of the list.
fn reserve() -> &'static Entry {
    let free = entries()
        .find(|entry| entry.owner.compare_exchange(FREE, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    if let Some(entry) = free {
        return entry;
    }
    let entry = Box::leak(Box::new(Entry {
        owner: AtomicU64::new(RESERVED),
        process: AtomicU32::new(0),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
        next: AtomicPtr::default(),
    }));
    let mut head = ENTRIES.load(Ordering::Acquire);
    loop {
        entry.next.store(head, Ordering::Relaxed);
        match ENTRIES.compare_exchange(head, entry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return entry,
            Err(other) => head = other,
        }
    }
}
