//! The handles of an operation, and the steps that operations share.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use image_cache::{Algorithm, CopyMode, Error, ExportOptions, ImageCache, ImportOptions, Log, Options, Writer};

use crate::checks::md5_hex;
use crate::configuration::Configuration;
use crate::fixture::bytes_of;
use crate::operations::{OperationResult, Outcome};

/// The handles that one run of an operation uses.
pub struct Setup {
    pub directory: PathBuf,
    pub configuration: Configuration,
    pub cache: Option<ImageCache>,
    pub writer: Option<Writer>,
    /// The image that the operation streams, to be cached at its end.
    pub streamed: Option<&'static str>,
    /// A file of the caller's, which is imported, or to which an image is exported.
    pub file: Option<File>,
    /// Whether the operation ran here before, and may find less to do.
    pub is_repeat: bool,
    /// The cache's log. It is printed at the end, since printing is a system call.
    messages: Arc<Mutex<Vec<String>>>,
}

/// A source that returns its bytes in pieces.
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

impl Setup {
    pub fn new(directory: PathBuf, configuration: Configuration) -> Self {
        Self {
            directory,
            configuration,
            cache: None,
            writer: None,
            streamed: None,
            file: None,
            is_repeat: false,
            messages: Arc::default(),
        }
    }

    /// The count that an operation returns is right.
    pub fn counted(&self, count: u64, actual: u64) -> Outcome {
        assert!(self.is_repeat || count == actual, "{count} were counted, and are {actual}");
        Outcome::Done
    }

    pub fn open(&mut self) -> Result<(), Error> {
        self.open_with(self.configuration.options())
    }

    pub fn open_with(&mut self, options: Options) -> Result<(), Error> {
        let messages = Arc::clone(&self.messages);
        let log = Log::new(move |_, message| messages.lock().expect("one thread").push(message.to_owned()));
        self.cache = Some(ImageCache::open(&self.directory, options.log(log))?);
        Ok(())
    }

    /// The outcome of a stream: it delivers all bytes, whether it caches the image or not. To be called when no call fails any more.
    pub fn settled(&self, result: OperationResult) -> OperationResult {
        let Some(id) = self.streamed else { return result };
        let stays = |message: &String| message.contains("which could not be synced, stays");
        let is_cached =
            self.directory.join(id).exists() && !self.messages.lock().expect("one thread").iter().any(stays);
        result.map(|outcome| if is_cached { outcome } else { Outcome::Partial })
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
        writer.expect_digest(Algorithm::Md5, &md5_hex(&bytes))?;
        writer.write_chunk(&bytes)
    }

    pub fn commit(&mut self) -> OperationResult {
        self.writer.take().expect("there is a writer").commit().map(|()| Outcome::Done)
    }

    /// Opens the cache, and creates a file with the bytes of an image.
    pub fn open_with_file(&mut self, id: &str) -> Result<(), Error> {
        // Other operations have their directories beside this one.
        let path = self.directory.with_extension("file-of-the-caller");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a new file");
        file.write_all_at(&bytes_of(id), 0).expect("the file is written");
        self.file = Some(file);
        self.open()
    }

    pub fn import(&mut self, id: &str) -> OperationResult {
        let digests = vec![(Algorithm::Md5, md5_hex(&bytes_of(id)))];
        let options = ImportOptions { digests, ..ImportOptions::default() };
        let file = self.file.as_ref().expect("there is a file");
        self.cache().import(id, file, &options, |_, _| ControlFlow::Continue(())).map(|_| Outcome::Done)
    }

    /// The file is the image after success, and empty after a failure.
    pub fn export(&mut self, id: &str, mode: CopyMode) -> OperationResult {
        let file = self.file.as_ref().expect("there is a file");
        let options = ExportOptions { mode, sync: true };
        let exported = self.cache().export(id, file, options, |_, _| ControlFlow::Continue(()));
        // The fault can be in these calls as well.
        let Ok(length) = file.metadata().map(|metadata| metadata.len()) else { return exported.map(|_| Outcome::Done) };
        let mut bytes = vec![0; usize::try_from(length).expect("a short file")];
        match (&exported, file.read_exact_at(&mut bytes, 0)) {
            (_, Err(_)) => {}
            (Ok(_), _) => assert!(bytes == bytes_of(id), "wrong bytes were exported"),
            (Err(error), _) => {
                // The fault can be in the truncation as well.
                let is_good = bytes.is_empty() || bytes == bytes_of("new") || file.set_len(length).is_err();
                assert!(is_good, "a failed export left {length} bytes: {error}");
            }
        }
        exported.map(|_| Outcome::Done)
    }

    /// Reads an image to its end, and closes it.
    pub fn read_whole(&mut self, id: &str) -> OperationResult {
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
        Ok(Outcome::Done)
    }

    /// The tee delivers every byte, whether the image is cached or not.
    pub fn read_tee(&mut self, id: &str) -> OperationResult {
        let mut tee = self.cache().tee(id, Source { bytes: bytes_of(id), at: 0 })?;
        let _ = tee.expect_digest(Algorithm::Md5, &md5_hex(&bytes_of(id)));
        let mut received = Vec::new();
        tee.read_to_end(&mut received).expect("a tee goes on delivering");
        assert!(received == bytes_of(id), "the tee delivers all bytes");
        let cached = tee.is_caching() || (self.is_repeat && self.cache().is_cached(id)?);
        drop(tee);
        Ok(if cached { Outcome::Done } else { Outcome::Partial })
    }
}
