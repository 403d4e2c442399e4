//! Scripted sources, which tees, streams and prefetch share.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::rc::Rc;

use image_cache::{Algorithm, RangeSource, Writer};

use super::words::{buffer_of, data, is_data, number, text};
use super::{OperationResult, Output, Scenario, Stop};

/// The pieces that a source returns, and the expectations that a fetch sets on its writer.
#[derive(Clone, Default)]
pub struct Script {
    expectations: Vec<Expectation>,
    pieces: Vec<Vec<u8>>,
    last: Last,
}

/// What a source does after its last piece.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    #[default]
    End,
    Fail,
    /// Returns more than was requested.
    More,
    /// Reads the stream or tee that it is called for, which fails. The types of this API do not permit that call.
    Reenter,
}

#[derive(Clone)]
enum Expectation {
    Size(u64),
    Digest { algorithm: String, hex: String },
}

/// How often a source was called, and how many bytes it has returned.
#[derive(Default)]
pub struct Counters {
    pub calls: Cell<u64>,
    pub bytes: Cell<u64>,
}

/// A source that follows a script.
pub struct Source {
    script: Script,
    /// Where a sequential read goes on.
    position: u64,
    counters: Rc<Counters>,
}

impl Script {
    /// `may_expect`: of a fetch, whose steps can be expectations.
    pub fn new(scenario: &Scenario, steps: &[&[u8]], may_expect: bool) -> Result<Self, Stop> {
        let mut script = Self::default();
        for step in steps {
            if script.last != Last::End {
                return Err(Stop::BadLine("a step after the last one"));
            }
            match *step {
                b"fail" => script.last = Last::Fail,
                b"more" if !may_expect => script.last = Last::More,
                b"reenter" if !may_expect => script.last = Last::Reenter,
                _ => script.add(scenario, step, may_expect)?,
            }
        }
        Ok(script)
    }

    fn add(&mut self, scenario: &Scenario, step: &[u8], may_expect: bool) -> Result<(), Stop> {
        if let Some(parameters) = step.strip_prefix(b"file:") {
            self.add_file(scenario, parameters)?;
        } else if is_data(step) {
            self.pieces.push(data(step)?);
        } else if may_expect {
            self.expectations.push(Expectation::new(text(step)?)?);
        } else {
            return Err(Stop::BadLine("no such step"));
        }
        Ok(())
    }

    fn add_file(&mut self, scenario: &Scenario, parameters: &[u8]) -> Result<(), Stop> {
        let colon = parameters.iter().rposition(|&byte| byte == b':').ok_or(Stop::BadLine("not file:PATH:N"))?;
        let piece = buffer_of(&parameters[colon + 1..])?.len();
        let whole = fs::read(scenario.path(&parameters[..colon])).map_err(|_| Stop::BadLine("no such file"))?;
        if piece == 0 {
            return Err(Stop::BadLine("pieces of 0 bytes"));
        }
        self.pieces.extend(whole.chunks(piece).map(<[u8]>::to_vec));
        Ok(())
    }

    pub fn fails(&self) -> bool {
        self.last == Last::Fail
    }

    pub fn write_to(&self, writer: &mut Writer) -> image_cache::Result<()> {
        for expectation in &self.expectations {
            match expectation {
                Expectation::Size(bytes) => writer.expect_size(*bytes)?,
                Expectation::Digest { algorithm, hex } => {
                    writer.expect_digest(Algorithm::from_name(algorithm)?, hex)?;
                }
            }
        }
        self.pieces.iter().try_for_each(|piece| writer.write_chunk(piece))
    }

    /// The rest of the piece that has a byte at an offset. An empty piece there ends the source. `None` after the last piece.
    fn rest_at(&self, offset: u64) -> Option<&[u8]> {
        let mut begin = 0;
        for piece in &self.pieces {
            let end = begin + piece.len() as u64;
            if offset < end || (offset == begin && piece.is_empty()) {
                return usize::try_from(offset - begin).ok().and_then(|at| piece.get(at..));
            }
            begin = end;
        }
        None
    }
}

impl Expectation {
    fn new(step: &str) -> Result<Self, Stop> {
        let (what, value) = step.split_once(':').ok_or(Stop::BadLine("no such step"))?;
        Ok(match what {
            "size" => Self::Size(number(value.as_bytes())?),
            algorithm => Self::Digest { algorithm: algorithm.to_owned(), hex: value.to_owned() },
        })
    }
}

impl Source {
    pub fn new(script: Script) -> (Self, Rc<Counters>) {
        let counters = Rc::new(Counters::default());
        (Self { script, position: 0, counters: Rc::clone(&counters) }, counters)
    }
}

impl RangeSource for Source {
    /// Returns a piece that is larger than the buffer over several calls. No call returns parts of two pieces.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.counters.calls.set(self.counters.calls.get() + 1);
        if let Some(rest) = self.script.rest_at(offset) {
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            self.counters.bytes.set(self.counters.bytes.get() + length as u64);
            return Ok(length);
        }
        match self.script.last {
            Last::End => Ok(0),
            Last::More => Ok(buffer.len() + 1),
            Last::Fail | Last::Reenter => Err(io::Error::other("the script fails here")),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.read_at(self.position, buffer)?;
        self.position += length as u64;
        Ok(length)
    }
}

/// The bytes of one read with a buffer of as many bytes as the word says.
pub fn read_once(capacity: &[u8], read: impl FnOnce(&mut [u8]) -> image_cache::Result<usize>) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    let length = read(&mut buffer);
    Ok(Output::of(length, |length| super::words::fingerprint(&buffer[..length])))
}

/// Reads to the end or a failure, and prints the bytes in either case.
pub fn read_all(capacity: &[u8], mut read: impl FnMut(&mut [u8]) -> image_cache::Result<usize>) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    let mut bytes = Vec::new();
    let outcome = loop {
        match read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => break Err(error),
        }
    };
    Ok(Output::status(outcome).with_bytes(&bytes))
}
