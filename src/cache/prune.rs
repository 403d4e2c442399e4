//! Evicting the least recently accessed images until the cache is within its limit, and the disk has room.
//!
//! Victims are chosen first, in the order of access and as many as the goal needs. Then they are removed. So nothing is evicted
//! in vain:
//!
//! - If room for an image is to be made, and cannot be, none is evicted.
//! - An image that cannot be removed (an immutable file, another user's in a sticky directory) is never a victim. If such images
//!   alone exceed the limit, none is evicted.
//! - An image that anybody has open is left (see `store::in_use`), and others are evicted in its place. It is not in vain to evict
//!   those if the limit is missed all the same: the next prune, after the image was closed, has less to evict. A prune that misses its
//!   limit only for such images succeeds.
//! - Images in use are tried once more before others are evicted in their place (a listing opens each for a moment), and again for 21 ms
//!   before the limit is missed or room is refused: a child that the host forks has them open until it calls exec.
//! - If room for an image cannot be made because of images in use, none is evicted. So then each victim is checked when it is
//!   chosen. Else only its removal checks that, which holds a lease until the name is gone.
//! - A pinned image is never a victim, and no failure. The others are evicted all the same.
//! - An empty image is no victim, unless blocks are missing, and it has one for its attributes.
//! - If a victim has no file, or another size, the index is wrong: it is rebuilt, and the victims are chosen again.
//!
//! Each image is looked at once at most, or four times if it is in use, and the order starts again twice at most, so a prune always ends.

use std::collections::VecDeque;

use crate::cache::counters::Counter;
use crate::cache::eviction_order::{correct_future_accesses, eviction_order, next_batch};
use crate::cache::freed::wait_until_free;
use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, RemoveOutcome};
use crate::cache::remove::BATCH;
use crate::cache::victims::{Goal, InUse, Victim, removable};
use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder, Totals};
use crate::store::in_use::is_in_use;
use crate::store::layout::Area;
use crate::store::lock::{CacheLockGuard, LongLockGuard};
use crate::store::pins::Pins;
use crate::sys::memory;
use crate::sys::stat::Removable;
use crate::sys::time::Timestamp;

/// How often the victims are chosen again, when other programs change images meanwhile, or the index is wrong.
const RESTARTS: usize = 2;

/// The result of a prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many images were evicted.
    pub images: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Pruned {
    pub(crate) fn add(&mut self, other: Self) {
        self.images += other.images;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Evicts until the rest has at most so many bytes, or no candidate is left.
pub(crate) fn prune(cache: &CacheInner, limit: u64) -> Result<Pruned> {
    evict(cache, None, Goal { limit, ..Goal::default() })
}

/// Makes room for an image: within the limit, and on the disk. Fails for a full disk, and evicts nothing, if that cannot be.
pub(crate) fn make_room(cache: &CacheInner, bytes: u64) -> Result<Pruned> {
    let own = cache.own_limit();
    let Some(limit) = own.checked_sub(bytes) else {
        return Err(no_room(cache, bytes, format!("the limit is {own} bytes")));
    };
    let pruned = evict(cache, None, Goal { limit, free: bytes, is_all_or_nothing: true, ..Goal::default() })?;
    // Readers keep what was deleted, and other programs write.
    match wait_until_free(cache, |space| space.free_bytes >= bytes)?.free_bytes {
        free if free < bytes => {
            Err(no_room(cache, bytes, format!("the disk has {free} bytes free after the eviction")))
        }
        _ => Ok(pruned),
    }
}

fn no_room(cache: &CacheInner, bytes: u64, why: String) -> Error {
    Error::NoRoom { bytes, why, path: cache.layout().directory(Area::Cached).path().to_owned() }
}

/// Evicts images for a goal. `held`: the prune lock, if the caller has it.
pub(crate) fn evict(cache: &CacheInner, held: Option<&LongLockGuard<'_>>, goal: Goal) -> Result<Pruned> {
    // Two prunes at the same time would compute the same excess, and evict twice as much.
    let _prune_lock = match held.map_or_else(|| cache.lock.acquire_prune().map(Some), |_| Ok(None)) {
        // Below the limit, there is nothing to do. Above it, the removal fails.
        Err(error) if error.is_not_permitted() => None,
        acquired => acquired?,
    };
    if let Err(error) = correct_future_accesses(cache) {
        cache.log().warning(|| error.to_string());
    }
    let mut restarts = if cache.index().reconciled().is_some() { RESTARTS } else { 0 };
    loop {
        let (lock, mut pruning) = Pruning::begin(cache, goal)?;
        let mut lock = Some(lock);
        if let Some(victims) = pruning.choose(&mut lock, restarts > 0)? {
            return pruning.run(lock, victims);
        }
        pruning.doubt(lock)?;
        restarts = restarts.saturating_sub(1);
    }
}

/// The cache lock, taken if it is not held.
fn held<'a, 'l>(cache: &'a CacheInner, lock: &'l mut Option<CacheLockGuard<'a>>) -> Result<&'l CacheLockGuard<'a>> {
    let held = lock.take().map_or_else(|| cache.lock.acquire(), Ok)?;
    Ok(lock.insert(held))
}

struct Pruning<'a> {
    cache: &'a CacheInner,
    order: Box<dyn EvictionOrder + 'a>,
    candidates: VecDeque<Candidate>,
    /// A batch of candidates was looked at.
    has_looked: bool,
    /// How many candidates are left in the order. Images that are added meanwhile are none, so that the prune ends.
    unseen: usize,
    goal: Goal,
    /// Bytes above the limit.
    excess: u128,
    /// Bytes that are still to be freed on the disk.
    short: u64,
    /// Inodes that are still to be freed.
    inodes: u64,
    /// Bytes of images that cannot be removed.
    fixed: u128,
    in_use: InUse,
    /// Where images are pinned, if any was.
    pins: Option<Pins<'a>>,
    /// Pinned images that were skipped, and their bytes.
    pinned: Totals,
    pruned: Pruned,
    /// The first failure.
    failed: Result<()>,
    /// Images that were evicted, and are still to be logged: without the cache lock.
    evicted: Vec<Candidate>,
}

impl<'a> Pruning<'a> {
    fn begin(cache: &'a CacheInner, goal: Goal) -> Result<(CacheLockGuard<'a>, Self)> {
        let (lock, order) = eviction_order(cache)?;
        let totals = order.totals();
        let missing = if goal.free > 0 { goal.free.saturating_sub(cache.layout().space()?.free_bytes) } else { 0 };
        let pruning = Self {
            cache,
            order,
            candidates: VecDeque::new(),
            has_looked: false,
            unseen: usize::try_from(totals.images).unwrap_or(usize::MAX),
            goal,
            excess: totals.bytes.saturating_sub(goal.limit.into()),
            short: missing.max(goal.freed),
            inodes: goal.inodes,
            fixed: 0,
            in_use: InUse::default(),
            pins: Pins::open(cache.layout(), cache.log())?,
            pinned: Totals::default(),
            pruned: Pruned::default(),
            failed: Ok(()),
            evicted: Vec::new(),
        };
        Ok((lock, pruning))
    }

    /// The index contradicts the directory. If nobody has changed it meanwhile, it is wrong, and is compared.
    fn doubt(self, mut lock: Option<CacheLockGuard<'a>>) -> Result<()> {
        let Some(index) = self.cache.index().reconciled() else { return Ok(()) };
        let has_changed =
            index.totals(held(self.cache, &mut lock)?).is_ok_and(|present| present != self.order.totals());
        drop(lock);
        if !has_changed && let Err(error) = self.cache.catalog.compare(&self.cache.lock) {
            self.cache
                .log()
                .warning(|| format!("{error}; the index is compared with the directory before its next query"));
        }
        Ok(())
    }

    /// Chooses as many victims as the goal needs; none when it cannot be reached. `None` when the index does not agree with
    /// the directory, and the prune may restart.
    fn choose(&mut self, lock: &mut Option<CacheLockGuard<'a>>, may_restart: bool) -> Result<Option<Vec<Victim>>> {
        let mut victims = Vec::new();
        let (mut bytes, mut allocated) = (0_u128, 0_u64);
        while self.needs_more(bytes, allocated, victims.len()) && !self.is_out_of_reach() {
            let Some(candidate) = self.candidates.pop_front() else {
                // Other handles get the lock between two batches, also if nothing of the first was chosen.
                if self.has_looked {
                    drop(lock.take());
                }
                self.has_looked = true;
                let count = BATCH.min(self.unseen);
                self.candidates.extend(next_batch(self.order.as_mut(), lock, || self.cache.lock.acquire(), count)?);
                self.unseen -= self.candidates.len().min(self.unseen);
                if self.candidates.is_empty() {
                    break;
                }
                continue;
            };
            match self.check_evictable(&candidate) {
                Err(Error::Pinned { .. }) => self.note_pinned(candidate.size),
                // It takes up nothing that is missing, except a block for its attributes.
                Ok(Some(file))
                    if file.size == 0 && candidate.size == 0 && (file.allocated == 0 || allocated >= self.short) => {}
                // Only the disk is short, and it takes up nothing there: it is sparse, or has another name.
                Ok(Some(Removable { allocated: 0, .. }))
                    if bytes >= self.excess && victims.len() as u64 >= self.inodes => {}
                Ok(Some(file))
                    if (file.size == candidate.size || !may_restart)
                        && self.goal.is_all_or_nothing
                        && is_in_use(self.cache.layout(), held(self.cache, lock)?, &candidate.id) =>
                {
                    self.in_use.add(Victim { candidate, allocated: file.allocated })?;
                }
                Ok(Some(file)) if file.size == candidate.size || !may_restart => {
                    bytes += u128::from(candidate.size);
                    allocated = allocated.saturating_add(file.allocated);
                    let victim = Victim { candidate, allocated: file.allocated };
                    memory::push(&mut victims, victim, "choose the images to be evicted")?;
                }
                Ok(_) if may_restart => return Ok(None),
                // It vanished.
                Ok(_) => self.excess = self.excess.saturating_sub(candidate.size.into()),
                Err(error) => {
                    self.fixed += u128::from(candidate.size);
                    self.note(Err(error));
                }
            }
        }
        while self.goal.is_all_or_nothing && self.needs_more(bytes, allocated, victims.len()) {
            // Not under the lock: it waits.
            drop(lock.take());
            let again = self.in_use.repeat();
            if again.is_empty() {
                break;
            }
            for victim in again {
                if is_in_use(self.cache.layout(), held(self.cache, lock)?, &victim.candidate.id) {
                    self.in_use.add(victim)?;
                } else {
                    bytes += u128::from(victim.candidate.size);
                    allocated = allocated.saturating_add(victim.allocated);
                    memory::push(&mut victims, victim, "choose the images to be evicted")?;
                }
            }
        }
        let is_missed = self.needs_more(bytes, allocated, victims.len());
        if self.is_out_of_reach() || (is_missed && self.goal.is_all_or_nothing) {
            victims.clear();
        }
        Ok(Some(victims))
    }

    /// Removes the victims, and further ones for those that could not be removed.
    fn run(mut self, mut lock: Option<CacheLockGuard<'a>>, mut victims: Vec<Victim>) -> Result<Pruned> {
        while !victims.is_empty() {
            for victims in victims.chunks(BATCH) {
                if self.is_out_of_reach() {
                    break;
                }
                let removed = self.remove(held(self.cache, &mut lock)?, victims);
                drop(lock.take());
                self.log_evicted();
                removed?;
            }
            if self.is_reached() {
                break;
            }
            victims = self.in_use.repeat_once();
            if victims.is_empty() {
                victims = self.choose(&mut lock, false)?.unwrap_or_default();
            }
            // Not under the lock: the next ones wait.
            if victims.is_empty() {
                drop(lock.take());
                victims = self.in_use.repeat();
            }
        }
        drop(lock);
        let (is_reached, Totals { images, bytes }) = (self.is_reached(), self.pinned);
        if !is_reached && images > 0 {
            self.cache.log().info(|| format!("{images} pinned images with {bytes} bytes stay: the limit is missed"));
        }
        if self.in_use.is_any() {
            self.cache.log().info(|| format!("{}, and are not evicted", self.in_use));
        }
        // An image that could not be removed is a failure only if the limit is missed, and not for images in use alone. That is unknown if images could not be stat'ed.
        match (self.failed, self.order.skipped()) {
            (Err(error), _) if !is_reached && self.excess.max(self.short.into()) > self.in_use.bytes() => Err(error),
            _ if !is_reached && self.goal.is_all_or_nothing => {
                let is_of_limit = self.excess > 0 || self.goal.counts_names;
                let place = if is_of_limit { "within the limit" } else { "on the disk" };
                let in_use = if self.in_use.is_any() { format!(": {}", self.in_use) } else { String::new() };
                let pinned = if images > 0 { format!(", beside {bytes} bytes that are pinned") } else { String::new() };
                Err(no_room(self.cache, self.goal.free, format!("too little can be evicted {place}{in_use}{pinned}")))
            }
            (failed, skipped) => {
                if let Err(error) = failed {
                    self.cache.log().warning(|| error.to_string());
                }
                skipped.map_or(Ok(self.pruned), Err)
            }
        }
    }

    fn remove(&mut self, lock: &CacheLockGuard<'_>, victims: &[Victim]) -> Result<()> {
        let victims = self.still_needed(lock, victims);
        let ids: Vec<_> = victims.iter().map(|victim| victim.candidate.id.clone()).collect();
        let removal = NameChange::begin(&self.cache.catalog, lock)?.remove_unused(&ids)?;
        for (victim, outcome) in victims.iter().zip(&removal.outcomes) {
            let size = u128::from(victim.candidate.size);
            match outcome {
                RemoveOutcome::Failed => self.fixed += size,
                RemoveOutcome::InUse => self.in_use.add(victim.clone())?,
                RemoveOutcome::Pinned => self.note_pinned(victim.candidate.size),
                // The name may belong to another image by now, with another size.
                RemoveOutcome::Removed { size: removed, .. } => {
                    self.inodes = self.inodes.saturating_sub(1);
                    self.excess = self.excess.saturating_sub(size);
                    self.short = self.short.saturating_sub(victim.allocated);
                    self.evicted.push(victim.candidate.clone());
                    self.cache.counters().add(Counter::Evictions, 1);
                    self.cache.counters().add(Counter::EvictedBytes, *removed);
                    self.pruned.images += 1;
                    self.pruned.bytes = self.pruned.bytes.saturating_add(*removed);
                }
                RemoveOutcome::Missing => self.excess = self.excess.saturating_sub(size),
            }
        }
        self.note(removal.result);
        Ok(())
    }

    /// The victims that are still needed: others may have removed images meanwhile.
    fn still_needed<'v>(&mut self, lock: &CacheLockGuard<'_>, victims: &'v [Victim]) -> &'v [Victim] {
        if let Some(index) = self.cache.index().reconciled()
            && let Ok(totals) = index.totals(lock)
        {
            self.excess = self.excess.min(totals.bytes.saturating_sub(self.goal.limit.into()));
        }
        let (mut bytes, mut allocated, mut count) = (0, 0_u64, 0);
        let count = victims
            .iter()
            .take_while(|victim| {
                let is_needed = self.needs_more(bytes, allocated, count);
                count += 1;
                bytes += u128::from(victim.candidate.size);
                allocated = allocated.saturating_add(victim.allocated);
                is_needed
            })
            .count();
        &victims[..count]
    }

    /// A candidate's file. Fails when it cannot be removed, or is pinned.
    fn check_evictable(&self, candidate: &Candidate) -> Result<Option<Removable>> {
        let file = removable(self.cache, &candidate.id, self.goal)?;
        match &self.pins {
            Some(pins) if file.is_some() => pins.check_none_known(&candidate.id).map(|()| file),
            _ => Ok(file),
        }
    }

    fn note_pinned(&mut self, size: u64) {
        self.pinned.images += 1;
        self.pinned.bytes += u128::from(size);
    }

    /// Whether the images that cannot be removed exceed the limit alone.
    fn is_out_of_reach(&self) -> bool {
        self.fixed > self.goal.limit.into()
    }

    fn is_reached(&self) -> bool {
        !self.needs_more(0, 0, 0)
    }

    /// Whether victims of so many bytes, which take up so many on the disk, are not enough.
    fn needs_more(&self, bytes: u128, allocated: u64, victims: usize) -> bool {
        bytes < self.excess || allocated < self.short || (victims as u64) < self.inodes
    }

    fn log_evicted(&mut self) {
        for Candidate { id, size, accessed } in self.evicted.drain(..) {
            self.cache.log().info(|| {
                let idle = Timestamp::now().distance(accessed).as_secs();
                format!("image '{id}' is evicted: {size} bytes, not accessed for {idle} s")
            });
        }
    }

    fn note(&mut self, result: Result<()>) {
        if self.failed.is_ok() {
            self.failed = result;
        }
    }
}
