//! The write-back of a file while more of its bytes come. The sync at the end then has little to do, and a streamed image does not
//! displace other pages from the page cache.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::error::Result;
use crate::options::Durability;
use crate::sys::writeback;

/// The unit of write-back, in bytes: large enough for the disk's full speed, small enough for a short wait at the end.
const WINDOW: u64 = 8 << 20;

/// How far the write-back of a file is. A failure of any method is final for the file.
#[derive(Debug)]
pub(crate) struct Writeback {
    durability: Durability,
    streaming: bool,
    /// Write-back was started up to here.
    started: u64,
    /// Up to here the bytes are on the disk, and dropped from the page cache.
    dropped: u64,
}

impl Writeback {
    pub fn new(durability: Durability, streaming: bool) -> Self {
        Self { durability, streaming, started: 0, dropped: 0 }
    }

    /// Starts the write-back of full windows, up to `written` bytes. Does nothing when no sync will wait for the bytes.
    pub fn advance(&mut self, file: &File, written: u64, path: impl Fn() -> PathBuf) -> Result<()> {
        if self.durability == Durability::None && !self.streaming {
            return Ok(());
        }
        // Many at once after a hole, or after blocks that are shared.
        let windows = (written - self.started) / WINDOW * WINDOW;
        if windows > 0 {
            writeback::start(file, &path, self.started, windows)?;
            // What was just started stays: while the disk writes it, the next window is filled.
            if self.streaming && self.started > self.dropped {
                self.drop_started(file, &path)?;
            }
            self.started += windows;
        }
        Ok(())
    }

    /// Starts the write-back of the last window of a long file, while its digest is computed.
    pub fn start_rest(&mut self, file: &File, written: u64, path: impl Fn() -> PathBuf) -> Result<()> {
        if self.started > 0 && written > self.started {
            writeback::start(file, path, self.started, written - self.started)?;
            self.started = written;
        }
        Ok(())
    }

    /// Drops the remaining pages of a streamed file. Called after its sync, if there is one: dirty pages cannot be dropped.
    pub fn drop_rest(&mut self, file: &File, written: u64, path: impl Fn() -> PathBuf) -> Result<()> {
        if self.streaming {
            // Without a sync before, this waits for the last two windows.
            if let Some(rest) = NonZeroU64::new(written - self.dropped) {
                writeback::finish(file, path, self.dropped, rest.get())?;
            }
            writeback::drop_pages(file, 0, None);
            self.dropped = written;
        }
        Ok(())
    }

    fn drop_started(&mut self, file: &File, path: impl Fn() -> PathBuf) -> Result<()> {
        let length = self.started - self.dropped;
        writeback::finish(file, path, self.dropped, length)?;
        writeback::drop_pages(file, self.dropped, NonZeroU64::new(length));
        self.dropped = self.started;
        Ok(())
    }
}
