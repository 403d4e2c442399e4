//! A child process of the storm: some of its readers, which want one object, through a server or through a stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

const GIVEN_UP: &str = "it did not end within the limit";

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
    let new = |number| Got { number, first_byte: None, whole: None, failure: Some(GIVEN_UP.to_owned()) };
    let results = Arc::new(Results {
        got: Mutex::new((readers.first..readers.end).map(new).collect()),
        left: Mutex::new(readers.end - readers.first),
        ended: Condvar::new(),
    });
    for number in readers.first..readers.end {
        let (results, readers, cache) = (Arc::clone(&results), readers.clone(), cache.clone());
        std::thread::spawn(move || {
            let arrival = readers.arrivals * f64::from(number) / f64::from(readers.of_all);
            std::thread::sleep(Duration::from_secs_f64(arrival).saturating_sub(began.elapsed()));
            let index = (number - readers.first) as usize;
            let set = |set: &dyn Fn(&mut Got)| set(&mut locked(&results.got)[index]);
            let first_byte = |after: f64| set(&|got| got.first_byte = Some(after));
            let failure = readers.read(cache.as_deref(), &first_byte).err().map(|error| format!("{error:#}"));
            let whole = failure.is_none().then(|| began.elapsed().as_secs_f64());
            set(&|got| (got.whole, got.failure) = (whole, failure.clone()));
            *locked(&results.left) -= 1;
            results.ended.notify_all();
        });
    }
    let end = Duration::from_secs_f64(readers.limit).saturating_sub(began.elapsed());
    drop(results.ended.wait_timeout_while(locked(&results.left), end, |left| *left > 0));
    print(&*locked(&results.got))?;
    // With the readers that did not end.
    std::process::exit(0)
}

/// What the readers of a process have got so far.
struct Results {
    got: Mutex<Vec<Got>>,
    /// How many have not ended.
    left: Mutex<u32>,
    ended: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn read(&self, cache: Option<&ImageCache>, first_byte: &dyn Fn(f64)) -> Result<()> {
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

    fn to_the_end(&self, body: &mut impl Body, arrived: Instant, first_byte: &dyn Fn(f64)) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        let (mut hasher, mut read) = (Xxh3::new(), 0);
        loop {
            let length = body.read(&mut buffer)?;
            if read == 0 {
                first_byte(arrived.elapsed().as_secs_f64());
            }
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
    /// Requests the wanted bytes and no more. Longer ranges save requests, and their rest is sent in vain each time that another reader
    /// takes the turn: with ranges of 1 MiB, up to 3.7 times the object was sent on a busy machine.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.size.saturating_sub(offset).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.origin)?,
        };
        let length = connection.get(&self.path, Some((offset, length)))?;
        let mut read = 0;
        while read < length as usize {
            read += connection.read(&mut buffer[read..])?;
        }
        // After a failure it is closed, since the rest would be taken for the next response.
        self.connection = Some(connection);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::random_bytes;
    use crate::storm::origin::Origin;

    #[test]
    fn a_source_requests_exactly_the_bytes_of_each_call() {
        let content = random_bytes(150_000);
        let origin = Origin::start(content.clone()).unwrap();
        let size = content.len() as u64;
        let mut source = Source { origin: origin.address, path: "/a".to_owned(), size, connection: None };
        let mut buffer = vec![0; 64_000];
        for (offset, length) in [(0, 64_000), (64_000, 64_000), (140_000, 10_000), (3, 64_000), (150_000, 0)] {
            assert_eq!(source.read_at(offset, &mut buffer).unwrap(), length);
            assert!(buffer[..length] == content[offset as usize..offset as usize + length]);
        }
        let taken = origin.wait_until_taken("/a", 202_000, Duration::from_secs(20)).unwrap();
        assert_eq!((taken.requests, taken.bytes), (4, 202_000));
    }

    #[test]
    fn other_bytes_and_a_wrong_size_are_no_whole_image() {
        let content = random_bytes(100_000);
        let origin = Origin::start(content.clone()).unwrap();
        let readers = Readers {
            through: Through::Server(origin.address),
            name: "a".to_owned(),
            size: content.len() as u64,
            digest: xxhash_rust::xxh3::xxh3_64(&content),
            first: 0,
            end: 1,
            of_all: 1,
            arrivals: 0.0,
            limit: Duration::from_secs(60).as_secs_f64(),
        };
        let failure = |readers: &Readers| readers.read(None, &|_| ()).err().map(|error| error.to_string());
        assert_eq!(failure(&readers), None);
        assert_eq!(failure(&Readers { digest: 0, ..readers.clone() }), Some("other bytes".to_owned()));
        assert!(failure(&Readers { size: 1, ..readers }).is_some());
    }
}
