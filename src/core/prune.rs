//! Evicting the least recently accessed images until the cache is within its limit.
//!
//! One ordered pass: how much is too much is found once, and each image is looked at once at the most, so that it ends
//! whatever else happens. An image that is in use may be evicted: its readers keep its bytes.

use std::collections::VecDeque;

use crate::core::delete::BATCH;
use crate::core::shared::{Fate, Shared};
use crate::driver::{Candidate, EvictionOrder, scan};
use crate::error::Result;
use crate::system::lock::HostLockGuard;

/// What was evicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many images.
    pub images: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// The gate, and in which order images are evicted.
type Eviction<'a> = (HostLockGuard<'a>, Box<dyn EvictionOrder + 'a>);

impl Shared {
    /// Evicts until the cache is within its limit, or nothing is left that can be evicted.
    pub fn prune(&self) -> Result<Pruned> {
        // Whoever pruned at the same time would find the same excess, and evict as much again.
        let _pruning = self.pruning.acquire()?;
        let (gate, mut order) = self.eviction_order()?;
        let totals = order.totals();
        // The first victims are found and go in one stay in the gate: nobody comes between.
        let mut gate = Some(gate);
        let mut excess = totals.bytes.saturating_sub(self.max_size.into());
        // Images that come while it runs are not its business: without end, they would keep it running.
        let mut unseen = usize::try_from(totals.images).unwrap_or(usize::MAX);
        let mut candidates = VecDeque::new();
        let mut pruned = Pruned::default();
        let mut outcome = Ok(());
        while excess > 0 {
            let gate = gate.take().map_or_else(|| self.gate.acquire(), Ok)?;
            if candidates.is_empty() {
                candidates.extend(order.next_batch(&gate, BATCH.min(unseen))?);
                unseen -= candidates.len().min(unseen);
            }
            let victims = take_enough(&mut candidates, excess);
            if victims.is_empty() {
                break;
            }
            let ids: Vec<_> = victims.iter().map(|victim| victim.id.clone()).collect();
            let removal = self.remove_cached(&gate, &ids)?;
            drop(gate);
            outcome = outcome.and(removal.outcome);
            for (victim, fate) in victims.iter().zip(removal.fates) {
                if fate != Fate::Kept {
                    excess = excess.saturating_sub(victim.size.into());
                }
                // By now it can be another image of the same name.
                if let Fate::Removed { size } = fate {
                    pruned.images += 1;
                    pruned.bytes = pruned.bytes.saturating_add(size);
                }
            }
        }
        // That something could not be removed is a failure only where the limit is missed for it, which nobody knows where
        // something could not even be examined.
        match (outcome, order.missed()) {
            (Err(error), _) if excess > 0 => Err(error),
            (outcome, missed) => {
                if let Err(error) = outcome {
                    self.log.warning(|| error.to_string());
                }
                missed.map_or(Ok(pruned), Err)
            }
        }
    }
}

impl Shared {
    /// The size of all cached images, in bytes.
    pub fn size(&self) -> Result<u64> {
        let from_index = self.ask(|gate| self.driver.totals(gate));
        let totals = from_index.or_else(|error| {
            self.log.warning(|| format!("{error}; the directory gives the size"));
            scan::totals(&self.layout, &self.log)
        });
        Ok(u64::try_from(totals?.bytes).unwrap_or(u64::MAX))
    }

    /// In which order images are evicted. Should the index fail (it cannot be written on a full disk,
    /// for one), the directory and the files' access times say it: a full cache must not be kept from becoming smaller.
    fn eviction_order(&self) -> Result<Eviction<'_>> {
        let from_index = self.enter_settled().and_then(|gate| {
            self.tell_uses(&gate);
            let order = self.driver.eviction_order(&gate)?;
            Ok((gate, order))
        });
        from_index.or_else(|error| {
            self.log.warning(|| format!("{error}; the files' access times give the order of use"));
            Ok((self.gate.acquire()?, scan::eviction_order(&self.layout, &self.log)?))
        })
    }
}

/// Takes the first of the candidates, as many as are needed and are removed in one stay in the gate.
fn take_enough(candidates: &mut VecDeque<Candidate>, excess: u128) -> Vec<Candidate> {
    let mut chosen = Vec::new();
    let mut bytes = 0_u128;
    while bytes < excess
        && chosen.len() < BATCH
        && let Some(candidate) = candidates.pop_front()
    {
        bytes += u128::from(candidate.size);
        chosen.push(candidate);
    }
    chosen
}
