//! The limit that holds now: the directory's hard one, or that of the handle.

use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::options::LimitMode;
use crate::store::kept_limit;
use crate::store::lock::CacheLockGuard;

impl CacheInner {
    /// The directory's hard limit in bytes, if it has one. From then on, this handle keeps the ledger.
    pub fn hard_limit(&self, lock: &CacheLockGuard<'_>) -> Result<Option<u64>> {
        let mut limit = self.bounds.kept.read(self.layout())?;
        if limit.is_none()
            && lock.check_held().is_ok()
            && let Some(former) = self.bounds.kept.vanished(self.layout())?
        {
            limit = Some(former);
            let stored = kept_limit::keep(self.layout(), lock, limit);
            let outcome = stored.map_or_else(|error| error.to_string(), |()| "it is stored again".to_owned());
            self.log().warning(|| format!("another program removed the hard limit of {former} bytes: {outcome}"));
        }
        if limit.is_some() && !self.catalog.ledger.is_kept() && lock.check_held().is_ok() {
            let opened = self.catalog.ledger.open(self.layout(), lock);
            let message = |error| format!("{error}; the images are counted for each reservation");
            self.bounds.unkept_ledger.note(opened, self.log(), message);
        }
        self.bounds.note_hard(limit.is_some());
        if limit.is_some() {
            self.layout().keep_deleted();
        }
        Ok(limit)
    }

    /// The limit that holds now, in bytes.
    pub fn limit(&self) -> Result<u64> {
        Ok(self.bounds.kept.read(self.layout())?.unwrap_or_else(|| self.own_limit()))
    }

    /// The limit of this handle in bytes, while the directory has no hard one.
    pub fn own_limit(&self) -> u64 {
        self.bounds.own()
    }

    /// Sets the limit: that of the directory if it is hard, else that of this handle.
    pub fn set_limit(&self, bytes: u64) -> Result<()> {
        self.bounds.set_own(bytes);
        let lock = self.lock.acquire_to_query()?;
        match self.hard_limit(&lock) {
            Ok(Some(kept)) if kept != bytes => self.change_limit(&lock, Some(kept), bytes),
            // It is hard, and its number is lost.
            Err(Error::Damaged { .. }) => self.change_limit(&lock, None, bytes),
            kept => kept.map(drop),
        }
    }

    fn change_limit(&self, lock: &CacheLockGuard<'_>, former: Option<u64>, bytes: u64) -> Result<()> {
        kept_limit::keep(self.layout(), lock, Some(bytes))?;
        let former = former.map_or_else(|| "none".to_owned(), |former| format!("{former} bytes"));
        self.log().info(|| format!("the hard limit is {bytes} bytes; it was {former}"));
        Ok(())
    }

    /// Makes the directory's limit hard or soft, as the options of an open say. Without a maximum size of these options, a hard limit
    /// stays as it is. A handle that may not write changes nothing.
    pub fn choose_limit_mode(&self, mode: Option<LimitMode>, has_max_size: bool) -> Result<()> {
        let lock = self.lock.acquire_to_query()?;
        if lock.check_held().is_ok() {
            match mode {
                Some(LimitMode::Hard) => {
                    self.catalog.ledger.open(self.layout(), &lock)?;
                    self.catalog.ledger.check_reservation(self.layout())?;
                    // To store it syncs the directory, within the cache lock.
                    match self.bounds.kept.read(self.layout()) {
                        Ok(Some(kept)) if kept == self.own_limit() || !has_max_size => {}
                        kept => self.change_limit(&lock, kept.ok().flatten(), self.own_limit())?,
                    }
                }
                Some(LimitMode::Soft) => kept_limit::keep(self.layout(), &lock, None)?,
                None => {}
            }
        }
        self.hard_limit(&lock).map(drop)
    }
}
