//! This library and the cacache crate, as peers.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use image_cache::{Algorithm, DriverChoice, Durability, ImageCache, Options};
use md5::Md5;

use crate::content::{digest, pieces};
use crate::measure::seconds;
use crate::peers::compared::{PIECE, Peer};

/// This library with durability none.
pub struct Ours {
    cache: ImageCache,
    directory: PathBuf,
    driver: DriverChoice,
}

impl Ours {
    pub fn open(directory: &Path, driver: DriverChoice) -> Result<Self> {
        let options = Options::new().driver(driver).durability(Durability::None);
        Ok(Self { cache: ImageCache::open(directory, options)?, directory: directory.to_owned(), driver })
    }
}

impl Peer for Ours {
    fn cache(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut writer = self.cache.begin_write(name)?;
        writer.write_chunk(bytes)?;
        Ok(writer.commit()?)
    }

    fn hit(&mut self, name: &str) -> Result<()> {
        let mut buffer = [0; 1024];
        self.cache.open_for_read(name)?.read(&mut buffer)?;
        Ok(())
    }

    fn is_cached(&mut self, name: &str) -> Result<bool> {
        Ok(self.cache.is_cached(name)?)
    }

    fn size(&mut self) -> Result<Option<u64>> {
        Ok(Some(self.cache.cache_size()?))
    }

    fn list(&mut self) -> Result<usize> {
        Ok(self.cache.list_cached()?.count())
    }

    fn prune(&mut self, down_to: u64) -> Result<Option<f64>> {
        let options = Options::new().driver(self.driver).durability(Durability::None).max_size(down_to);
        let limited = ImageCache::open(&self.directory, options)?;
        Ok(Some(seconds(|| Ok(limited.prune()?))?.0))
    }

    fn write(&mut self, name: &str, piece: &[u8], length: usize) -> Result<f64> {
        let expected = digest::<Md5>(piece, length);
        let (took, ()) = seconds(|| {
            let mut writer = self.cache.begin_write(name)?;
            writer.expect_digest(Algorithm::Md5, &expected)?;
            pieces(piece, length).try_for_each(|piece| writer.write_chunk(piece))?;
            Ok(writer.commit()?)
        })?;
        Ok(took)
    }

    fn read(&mut self, name: &str, _length: usize) -> Result<f64> {
        let mut buffer = vec![0; PIECE];
        let (took, ()) = seconds(|| {
            let mut reader = self.cache.open_for_read(name)?;
            while reader.read(&mut buffer)? > 0 {}
            Ok(())
        })?;
        Ok(took)
    }
}

/// The cacache crate. It computes SHA-256 of all that it writes and reads; it neither counts nor evicts.
pub struct Cacache {
    directory: PathBuf,
}

impl Cacache {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl Peer for Cacache {
    fn cache(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        cacache::write_sync(&self.directory, name, bytes)?;
        Ok(())
    }

    fn hit(&mut self, name: &str) -> Result<()> {
        cacache::read_sync(&self.directory, name)?;
        Ok(())
    }

    fn is_cached(&mut self, name: &str) -> Result<bool> {
        Ok(cacache::metadata_sync(&self.directory, name)?.is_some())
    }

    fn size(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn list(&mut self) -> Result<usize> {
        Ok(cacache::list_sync(&self.directory).flatten().count())
    }

    fn prune(&mut self, _down_to: u64) -> Result<Option<f64>> {
        Ok(None)
    }

    fn write(&mut self, name: &str, piece: &[u8], length: usize) -> Result<f64> {
        let (took, ()) = seconds(|| {
            let mut writer = cacache::SyncWriter::create(&self.directory, name)?;
            pieces(piece, length).try_for_each(|piece| writer.write_all(piece))?;
            writer.commit()?;
            Ok(())
        })?;
        Ok(took)
    }

    fn read(&mut self, name: &str, _length: usize) -> Result<f64> {
        let mut buffer = vec![0; PIECE];
        let (took, ()) = seconds(|| {
            let mut reader = cacache::SyncReader::open(&self.directory, name)?;
            while reader.read(&mut buffer)? > 0 {}
            reader.check()?;
            Ok(())
        })?;
        Ok(took)
    }
}
