//! The origin of the storm: an HTTP server on loopback whose connections share 12 MiB/s. It counts what is taken of each object.

use std::collections::HashMap;
use std::io::{self, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::storm::http::{Head, range_of};

/// Bytes per second, of all connections.
pub const SPEED: u64 = 12 << 20;

/// The bytes are sent in pieces of this size.
const PIECE: usize = 16 << 10;

/// What was taken of one object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    pub requests: u64,
    pub bytes: u64,
    /// The port of the client that took the last ones.
    pub port: u16,
}

/// A server that has the same bytes under every path. It ends with this value.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    content: Vec<u8>,
    line: Line,
    taken: Mutex<HashMap<String, Taken>>,
    more_taken: Condvar,
    has_ended: AtomicBool,
}

impl Origin {
    pub fn start(content: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the origin's port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            content,
            line: Line { is_free_at: Mutex::new(Instant::now()) },
            taken: Mutex::default(),
            more_taken: Condvar::new(),
            has_ended: AtomicBool::new(false),
        });
        let of_server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if of_server.has_ended.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&of_server);
                // A client may leave at any time, and shows what it received.
                std::thread::spawn(move || client.and_then(|client| shared.serve(&client)));
            }
        });
        Ok(Self { address, shared })
    }

    pub fn taken(&self, path: &str) -> Taken {
        self.shared.taken().get(path).copied().unwrap_or_default()
    }

    /// Waits until so many bytes of an object were taken; `None` if that takes longer.
    pub fn wait_until_taken(&self, path: &str, bytes: u64, within: Duration) -> Option<Taken> {
        let enough = |taken: &mut HashMap<String, Taken>| taken.get(path).is_none_or(|taken| taken.bytes < bytes);
        let waited = self.shared.more_taken.wait_timeout_while(self.shared.taken(), within, enough);
        let (taken, result) = waited.unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() { None } else { taken.get(path).copied() }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // Its thread looks at that when a client comes.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, HashMap<String, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, path: &str, requests: u64, bytes: usize, port: u16) {
        let mut taken = self.taken();
        let of_path = taken.entry(path.to_owned()).or_default();
        of_path.requests += requests;
        of_path.bytes += bytes as u64;
        of_path.port = port;
        self.more_taken.notify_all();
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let port = client.peer_addr()?.port();
        let mut requests = BufReader::new(client);
        let mut late = Duration::ZERO;
        while let Some(head) = Head::read(&mut requests)? {
            let now = Instant::now();
            late = self.answer(&head, client, port, now.checked_sub(late).unwrap_or(now))?;
        }
        Ok(())
    }

    /// Sends a response whose bytes come on the line at `earliest`. Returns how late its last ones were sent: the client could not request
    /// more before, so this is no pause of the client's.
    fn answer(&self, head: &Head, mut client: &TcpStream, port: u16, mut earliest: Instant) -> io::Result<Duration> {
        const HEAD: &str = "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nETag: \"1\"\r\n\
            Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: public, max-age=86400\r\n";
        let (path, size) = (head.second_word(), self.content.len());
        let range = head.value("range");
        let Some((first, length)) = range_of(range, size as u64).filter(|_| head.first.starts_with("GET ")) else {
            client.write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(Duration::ZERO);
        };
        let status = match range {
            Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{}/{size}", first + length - 1),
            None => "200 OK".to_owned(),
        };
        self.count(path, 1, 0, port);
        client.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{HEAD}\r\n").as_bytes())?;
        let first = first as usize;
        for piece in self.content[first..first + length as usize].chunks(PIECE) {
            earliest = self.line.carry(piece.len(), earliest);
            client.write_all(piece)?;
            self.count(path, 0, piece.len(), port);
        }
        Ok(Instant::now().saturating_duration_since(earliest))
    }
}

/// The line that all connections share. It carries one piece after the other.
struct Line {
    is_free_at: Mutex<Instant>,
}

impl Line {
    /// Waits until so many bytes have passed the line. They come on it when it is free, and not before `earliest`. Returns when they have
    /// passed: a response's next piece follows there, even if this thread woke later. So a transfer has the speed of the line, and a pause
    /// between two requests is lost.
    fn carry(&self, bytes: usize, earliest: Instant) -> Instant {
        let mut is_free_at = self.is_free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *is_free_at = earliest.max(*is_free_at) + Duration::from_nanos(bytes as u64 * 1_000_000_000 / SPEED);
        let passed = *is_free_at;
        drop(is_free_at);
        std::thread::sleep(passed.saturating_duration_since(Instant::now()));
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::random_bytes;
    use crate::storm::http::Connection;

    fn read(connection: &mut Connection, path: &str, range: Option<(u64, u64)>) -> Vec<u8> {
        let mut body = vec![0; connection.get(path, range).unwrap() as usize];
        let mut read = 0;
        while read < body.len() {
            read += connection.read(&mut body[read..]).unwrap();
        }
        body
    }

    #[test]
    fn it_serves_objects_and_ranges_on_one_connection_and_counts_each_path() {
        let content = random_bytes(100_000);
        let origin = Origin::start(content.clone()).unwrap();
        let mut connection = Connection::open(origin.address).unwrap();
        assert_eq!(read(&mut connection, "/a", None), content);
        assert_eq!(read(&mut connection, "/b", Some((5, 70_000))), content[5..70_005]);
        assert_eq!(read(&mut connection, "/b", Some((99_000, 1_000))), content[99_000..]);
        assert!(connection.get("/b", Some((100_000, 1))).is_err());
        // The last piece is counted after it was sent.
        let taken = origin.wait_until_taken("/b", 71_000, Duration::from_secs(20)).unwrap();
        assert_eq!((taken.requests, taken.bytes), (2, 71_000));
        assert_eq!(origin.wait_until_taken("/b", 71_001, Duration::ZERO).map(|taken| taken.bytes), None);
        assert_eq!(origin.taken("/a").requests, 1);
        assert_eq!(origin.taken("/c").requests, 0);
    }

    #[test]
    fn the_line_loses_a_pause_and_no_time_in_which_it_was_late() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let line = Line { is_free_at: Mutex::new(now.checked_sub(100 * second).unwrap()) };
        let bytes = SPEED as usize;
        let first = line.carry(bytes, now.checked_sub(10 * second).unwrap());
        assert_eq!(first, now.checked_sub(9 * second).unwrap());
        // It follows at once, though this thread comes later.
        assert_eq!(line.carry(bytes, first), now.checked_sub(8 * second).unwrap());
        assert_eq!(line.carry(bytes, now.checked_sub(5 * second).unwrap()), now.checked_sub(4 * second).unwrap());
    }

    #[test]
    fn all_connections_share_the_speed() {
        let length = 1 << 20;
        let origin = Origin::start(vec![7; length]).unwrap();
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| read(&mut Connection::open(origin.address).unwrap(), "/a", None));
            }
        });
        assert!(began.elapsed().as_secs_f64() >= 3.0 * length as f64 / SPEED as f64);
    }
}
