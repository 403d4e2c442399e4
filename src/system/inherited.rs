//! Which directories have an index open in this process, or had one in the process that forked it.
//!
//! SQLite remembers, once for the whole process, which locks it holds on which file, and a forked child inherits that memory
//! without the locks: a connection that the child opens to the same file believes that it is locked, and damages it. So a
//! child must not open what was open when it was forked. This list is as process-wide as what it watches over. It has no
//! lock, since a child would inherit that as well, perhaps held: entries are added at its head, reused, and never freed.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::system::directory::Identity;
use crate::system::generation::Generation;

static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());

/// No process has this number: the entry is free.
const FREE: u64 = 0;
/// Nor this one: the entry is being filled.
const RESERVED: u64 = u64::MAX;

#[derive(Debug)]
struct Entry {
    /// The process that opened it.
    owner: AtomicU64,
    /// Its process id, for messages.
    process: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
    next: AtomicPtr<Entry>,
}

/// Says that an index is open, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenMark(&'static Entry);

impl OpenMark {
    /// Marks the index of a directory as open in this process; on failure, the process from which an open one was inherited.
    pub fn new(directory: Identity) -> Result<Self, u32> {
        let present = Generation::current().as_number();
        let (device, inode) = directory.numbers();
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

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.0.owner.store(FREE, Ordering::Release);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    std::iter::successors(follow(&ENTRIES), |entry| follow(&entry.next))
}

#[allow(unsafe_code, reason = "a list without a lock")]
fn follow(pointer: &AtomicPtr<Entry>) -> Option<&'static Entry> {
    // SAFETY: it is null, or an entry that `reserve` leaked: it lives for ever, and all of its fields are atomics.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

/// An entry that is nobody else's: a free one, or a new one at the head.
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
