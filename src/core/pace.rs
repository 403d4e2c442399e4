//! The pace at which a writer's bytes go to the disk while more of them come, so that the sync at the end has little left to do,
//! and so that an image that is streamed does not push everything else out of the page cache.

use std::fs::File;
use std::num::NonZeroU64;

use rustix::io::Errno;

use crate::core::options::Durability;
use crate::system::write_back;

/// How many bytes the kernel is told about at a time: large enough for a disk to be at its best, and little for the end to wait for.
const WINDOW: u64 = 8 << 20;

/// How far a file's bytes are on their way to the disk. A failure of any of these is the file's, and final.
#[derive(Debug)]
pub(crate) struct Pace {
    durability: Durability,
    streaming: bool,
    /// Up to here the kernel was told to begin.
    begun: u64,
    /// Up to here the bytes are on the disk, and dropped from the page cache.
    dropped: u64,
}

impl Pace {
    pub fn new(durability: Durability, streaming: bool) -> Self {
        Self { durability, streaming, begun: 0, dropped: 0 }
    }

    /// To be called as the file grows. Where nothing waits for the bytes in the end they are the kernel's own affair.
    pub fn advance(&mut self, file: &File, written: u64) -> Result<(), Errno> {
        if self.durability == Durability::None && !self.streaming {
            return Ok(());
        }
        while written - self.begun >= WINDOW {
            write_back::begin(file, self.begun, WINDOW)?;
            // Not the window that was just begun: while the disk has that one, the next one is filled.
            if self.streaming && self.begun > self.dropped {
                self.drop_window(file)?;
            }
            self.begun += WINDOW;
        }
        Ok(())
    }

    /// There are no more bytes: of a long file, the kernel may begin with the last of them while others have still to be hashed.
    pub fn begin_rest(&mut self, file: &File, written: u64) -> Result<(), Errno> {
        if self.begun > 0 && written > self.begun {
            write_back::begin(file, self.begun, written - self.begun)?;
            self.begun = written;
        }
        Ok(())
    }

    /// Drops what is still in the page cache, if the file is streamed. After its sync, where there is one: what is not on the disk
    /// cannot be dropped.
    pub fn drop_rest(&mut self, file: &File, written: u64) -> Result<(), Errno> {
        if self.streaming {
            // Without a sync before, this waits for the last two windows.
            if let Some(rest) = NonZeroU64::new(written - self.dropped) {
                write_back::finish(file, self.dropped, rest.get())?;
            }
            write_back::forget(file, 0, None);
            self.dropped = written;
        }
        Ok(())
    }

    fn drop_window(&mut self, file: &File) -> Result<(), Errno> {
        write_back::finish(file, self.dropped, WINDOW)?;
        write_back::forget(file, self.dropped, NonZeroU64::new(WINDOW));
        self.dropped += WINDOW;
        Ok(())
    }
}
