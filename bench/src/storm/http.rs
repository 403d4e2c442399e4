//! As much of HTTP/1.1 as the storm needs: heads, bodies of a known length, ranges, and connections that are kept.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// The first lines of a request or of a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The request's line, or the status line.
    pub first: String,
    lines: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` if the other side has closed the connection before it.
    pub fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first = read_line(input)?;
        let mut lines = Vec::new();
        loop {
            let line = read_line(input)?;
            match line.split_once(':') {
                Some((name, value)) => lines.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None if line.is_empty() => break,
                None => return Err(invalid(format!("'{line}' is no header line"))),
            }
        }
        Ok((!first.is_empty()).then_some(Self { first, lines }))
    }

    /// The value of a header, whose name is in lower case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: a request's path, or a response's status.
    pub fn second_word(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }
}

/// Empty at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(8192).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

pub fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A client's connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// Bytes of the present body that were not read yet.
    left: u64,
}

impl Connection {
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), left: 0 })
    }

    /// Requests an object, or `range` of it: from an offset, so many bytes, which it must have. Returns the length of the body, which
    /// [`Self::read`] reads.
    pub fn get(&mut self, path: &str, range: Option<(u64, u64)>) -> io::Result<u64> {
        let (header, expected) = match range {
            Some((first, length)) => (format!("Range: bytes={first}-{}\r\n", first + length - 1), "206"),
            None => (String::new(), "200"),
        };
        let head = format!("GET {path} HTTP/1.1\r\nHost: origin\r\n{header}\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        let head = Head::read(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = head.value("content-length").and_then(|length| length.parse().ok());
        let is_expected = head.second_word() == expected && range.is_none_or(|(_, wanted)| length == Some(wanted));
        let (true, Some(length)) = (is_expected, length) else {
            return Err(invalid(format!("the server answers '{}', Content-Length {length:?}", head.first)));
        };
        self.left = length;
        Ok(length)
    }

    /// Reads from the body; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let length = self.stream.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// The first byte and the length that a request's `Range` header names, of an object of `size` bytes; the whole object without one, and
/// `None` if the object has no such bytes.
pub fn range_of(header: Option<&str>, size: u64) -> Option<(u64, u64)> {
    let Some(header) = header else { return Some((0, size)) };
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last = if last.is_empty() { size.checked_sub(1)? } else { last.parse::<u64>().ok()?.min(size.checked_sub(1)?) };
    (first <= last).then(|| (first, last - first + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_and_its_names_have_no_case() {
        let mut input = &b"GET /a HTTP/1.1\r\nRANGE: bytes=1-2\r\n\r\nbody"[..];
        let head = Head::read(&mut input).unwrap().unwrap();
        assert_eq!((head.second_word(), head.value("range"), head.value("host")), ("/a", Some("bytes=1-2"), None));
        assert_eq!(input, b"body");
        assert_eq!(Head::read(&mut &b""[..]).unwrap(), None);
        assert!(Head::read(&mut &b"GET /a HTTP/1.1\r\nnonsense\r\n\r\n"[..]).is_err());
    }

    #[test]
    fn a_range_is_cut_at_the_end_of_the_object() {
        assert_eq!(range_of(None, 10), Some((0, 10)));
        assert_eq!(range_of(Some("bytes=2-4"), 10), Some((2, 3)));
        assert_eq!(range_of(Some("bytes=8-99"), 10), Some((8, 2)));
        assert_eq!(range_of(Some("bytes=8-"), 10), Some((8, 2)));
        assert_eq!(range_of(Some("bytes=10-11"), 10), None);
        assert_eq!(range_of(Some("lines=1-2"), 10), None);
    }
}
