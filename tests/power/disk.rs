//! A disk's contents in memory. Zero pages take no memory, and copies share equal pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const PAGE: usize = 4096;

#[derive(Debug, Clone)]
pub struct Disk {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    pub length: u64,
}

impl Disk {
    /// Reads a sparse file.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut disk = Self { pages: BTreeMap::new(), length: file.metadata()?.len() };
        let mut position = 0;
        loop {
            let start = match seek(&file, SeekFrom::Data(position)) {
                Err(Errno::NXIO) => return Ok(disk),
                start => start?,
            };
            position = seek(&file, SeekFrom::Hole(start))?;
            let mut page = [0; PAGE];
            for offset in (start..position).step_by(PAGE) {
                file.read_exact_at(&mut page, offset)?;
                if page != [0; PAGE] {
                    disk.write(offset, &page);
                }
            }
        }
    }

    /// Writes a new, sparse file.
    pub fn store(&self, path: &Path) -> Result<()> {
        let file = File::create(path)?;
        file.set_len(self.length)?;
        self.pages.iter().try_for_each(|(number, page)| file.write_all_at(&page[..], number * PAGE as u64))
    }

    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (number, within, part) in parts(offset, length) {
            if let Some(page) = self.pages.get(&number) {
                bytes[part.clone()].copy_from_slice(&page[within..within + part.len()]);
            }
        }
        bytes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, within, part) in parts(offset, bytes.len()) {
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + part.len()].copy_from_slice(&bytes[part]);
        }
    }
}

/// The pages that a range touches: the page's number, the offset in the page, and the part of the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).expect("less than a page");
        let end = length.min(done + PAGE - within);
        let part = done..end;
        done = end;
        Some((at / PAGE as u64, within, part))
    })
}
