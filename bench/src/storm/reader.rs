//! A child process of the storm: some of its readers, which want one object, through a server or through a stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Result;
use image_cache::{ImageCache, Options, Stream};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::child::print;
use crate::piped_child::wait_for_parent;
use crate::storm::http::Connection;

/// The size of a reader's buffer.
const BUFFER: usize = 64 << 10;

/// Where the readers read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Through {
    /// A server that has the object.
    Server(SocketAddr),
    /// Streams of a cache, whose source is the origin.
    Streams { cache: PathBuf, origin: SocketAddr },
}

/// The work of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Readers {
    pub through: Through,
    /// The object's name.
    pub name: String,
    pub size: u64,
    pub digest: u64,
    /// The readers of this process, of those of all processes.
    pub first: u32,
    pub end: u32,
    pub of_all: u32,
    /// All arrive within these seconds, at equal distances.
    pub arrivals: f64,
    /// After these seconds, the readers that have not ended are given up.
    pub limit: f64,
}

/// What a reader got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Got {
    pub number: u32,
    /// From its arrival.
    pub first_byte: Option<f64>,
    /// From the beginning of the storm to the end of the whole object.
    pub whole: Option<f64>,
    pub failure: Option<String>,
}

/// The path of an object.
pub fn path_of(name: &str) -> String {
    format!("/{name}")
}

/// Waits for the parent's line, and prints what each reader got.
pub fn work(readers: &str) -> Result<()> {
    let readers: Readers = serde_json::from_str(readers)?;
    let cache = match &readers.through {
        Through::Server(_) => None,
        Through::Streams { cache, .. } => Some(Arc::new(ImageCache::open(cache, Options::new().max_size(u64::MAX))?)),
    };
    println!();
    wait_for_parent()?;
    let began = Instant::now();
    let (sender, receiver) = mpsc::channel();
    for number in readers.first..readers.end {
        let (sender, readers, cache) = (sender.clone(), readers.clone(), cache.clone());
        std::thread::spawn(move || {
            let arrival = readers.arrivals * f64::from(number) / f64::from(readers.of_all);
            std::thread::sleep(Duration::from_secs_f64(arrival).saturating_sub(began.elapsed()));
            let mut got = Got { number, first_byte: None, whole: None, failure: None };
            match readers.read(cache.as_deref(), &mut got.first_byte) {
                Ok(()) => got.whole = Some(began.elapsed().as_secs_f64()),
                Err(error) => got.failure = Some(format!("{error:#}")),
            }
            sender.send(got)
        });
    }
    drop(sender);
    let end = began + Duration::from_secs_f64(readers.limit);
    let left = || receiver.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
    print(&std::iter::from_fn(left).collect::<Vec<_>>())?;
    // With the readers that did not end.
    std::process::exit(0)
}

/// Something that a reader reads to its end.
trait Body {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

impl Body for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.read(buffer)?)
    }
}

impl<S: image_cache::RangeSource> Body for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.read(buffer)?)
    }
}

impl Readers {
    fn read(&self, cache: Option<&ImageCache>, first_byte: &mut Option<f64>) -> Result<()> {
        let arrived = Instant::now();
        match (&self.through, cache) {
            (Through::Streams { origin, .. }, Some(cache)) => {
                let mut source =
                    Source { origin: *origin, path: path_of(&self.name), size: self.size, connection: None };
                let mut stream =
                    cache.stream(&self.name, move |offset, buffer: &mut [u8]| source.read_at(offset, buffer))?;
                stream.expect_size(self.size)?;
                self.to_the_end(&mut stream, arrived, first_byte)
            }
            (Through::Server(server) | Through::Streams { origin: server, .. }, _) => {
                let mut connection = Connection::open(*server)?;
                connection.get(&path_of(&self.name), None)?;
                self.to_the_end(&mut connection, arrived, first_byte)
            }
        }
    }

    fn to_the_end(&self, body: &mut impl Body, arrived: Instant, first_byte: &mut Option<f64>) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        let (mut hasher, mut read) = (Xxh3::new(), 0);
        loop {
            let length = body.read(&mut buffer)?;
            first_byte.get_or_insert_with(|| arrived.elapsed().as_secs_f64());
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            read += length as u64;
        }
        anyhow::ensure!(read == self.size, "{read} bytes of {}", self.size);
        anyhow::ensure!(hasher.digest() == self.digest, "other bytes");
        Ok(())
    }
}

/// The source of a stream: range requests on a connection that is kept.
struct Source {
    origin: SocketAddr,
    path: String,
    size: u64,
    connection: Option<Connection>,
}

impl Source {
    /// Requests exactly the wanted bytes, so that none is sent in vain when the turn goes to another reader.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (self.size - offset.min(self.size)).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.origin)?,
        };
        connection.get(&self.path, Some((offset, length)))?;
        let mut read = 0;
        while read < length as usize {
            match connection.read(&mut buffer[read..])? {
                0 => break,
                more => read += more,
            }
        }
        // After a failure it is closed, since its rest would be taken for the next response.
        self.connection = Some(connection);
        Ok(read)
    }
}
