//! Where an operation is played: the handles that it uses, and the steps that operations have in common.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use image_cache::{Algorithm, Error, ImageCache, Log, Options, Writer};

use crate::operations::{Acted, Said};
use crate::scene::{Manner, bytes_of, md5_of};

/// Where an operation is played.
pub struct Stage {
    pub directory: PathBuf,
    pub manner: Manner,
    pub cache: Option<ImageCache>,
    pub writer: Option<Writer>,
    /// It was played here before, and may find less to do.
    pub is_again: bool,
    /// What the cache logged: kept until the end, since printing is a system call.
    messages: Arc<Mutex<Vec<String>>>,
}

/// A source that gives its bytes in pieces.
struct Source {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = (self.bytes.len() - self.at).min(buffer.len()).min(1500);
        buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl Stage {
    pub fn new(directory: PathBuf, manner: Manner) -> Self {
        Self { directory, manner, cache: None, writer: None, is_again: false, messages: Arc::default() }
    }

    /// What an operation counts is true.
    pub fn counted(&self, count: u64, actual: u64) -> Said {
        assert!(self.is_again || count == actual, "{count} were counted, and are {actual}");
        Said::Done
    }

    pub fn open(&mut self) -> Result<(), Error> {
        self.open_with(self.manner.options())
    }

    pub fn open_with(&mut self, options: Options) -> Result<(), Error> {
        let messages = Arc::clone(&self.messages);
        let log = Log::new(move |_, message| messages.lock().expect("one thread").push(message.to_owned()));
        self.cache = Some(ImageCache::open(&self.directory, options.log(log))?);
        Ok(())
    }

    pub fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.messages.lock().expect("one thread"))
    }

    pub fn cache(&self) -> &ImageCache {
        self.cache.as_ref().expect("the cache is open")
    }

    pub fn begin(&mut self, id: &str) -> Result<(), Error> {
        self.writer = Some(self.cache().begin_write(id)?);
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.as_mut().expect("there is a writer").write_chunk(bytes)
    }

    pub fn write_whole(&mut self, id: &str) -> Result<(), Error> {
        self.begin(id)?;
        let bytes = bytes_of(id);
        let writer = self.writer.as_mut().expect("there is a writer");
        writer.expect_digest(Algorithm::Md5, &md5_of(&bytes))?;
        writer.write_chunk(&bytes)
    }

    pub fn commit(&mut self) -> Acted {
        self.writer.take().expect("there is a writer").commit().map(|()| Said::Done)
    }

    /// Reads an image to its end, and closes it.
    pub fn read_whole(&mut self, id: &str) -> Acted {
        let mut reader = self.cache().open_for_read(id)?;
        let mut bytes = vec![0; 9000];
        let mut length = 0;
        loop {
            match reader.read(&mut bytes[length..])? {
                0 => break,
                more => length += more,
            }
        }
        assert!(bytes[..length] == bytes_of(id), "wrong bytes were served");
        Ok(Said::Done)
    }

    /// Whatever becomes of the caching, every byte arrives.
    pub fn read_tee(&mut self, id: &str) -> Acted {
        let mut tee = self.cache().tee(id, Source { bytes: bytes_of(id), at: 0 })?;
        let _ = tee.expect_digest(Algorithm::Md5, &md5_of(&bytes_of(id)));
        let mut received = Vec::new();
        tee.read_to_end(&mut received).expect("a tee goes on delivering");
        assert!(received == bytes_of(id), "the tee delivers all bytes");
        let cached = tee.is_caching() || (self.is_again && self.cache().is_cached(id)?);
        drop(tee);
        Ok(if cached { Said::Done } else { Said::NotAll })
    }
}
