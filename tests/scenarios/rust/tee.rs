//! Tees over scripted sources, and prefetch with scripted fetches.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::rc::Rc;

use image_cache::{Algorithm, Error, Tee, Writer};

use super::cache::with_image_id;
use super::words::{buffer_of, data, escape, is_data, list, number, text};
use super::{Handle, OperationResult, Output, Scenario, Stop, words};

/// The pieces that a source returns, and the expectations that a fetch sets on its writer.
#[derive(Clone, Default)]
pub struct Script {
    expectations: Vec<Expectation>,
    pieces: VecDeque<Vec<u8>>,
    fails: bool,
}

#[derive(Clone)]
enum Expectation {
    Size(u64),
    Digest { algorithm: String, hex: String },
}

/// A source that follows a script.
pub struct Source {
    script: Script,
    calls: Rc<Cell<u64>>,
}

pub struct OpenTee {
    tee: Tee<Source>,
    calls: Rc<Cell<u64>>,
}

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    Some(match (name, arguments) {
        ("tee_open", [name, id, steps @ ..]) => open(scenario, name, id, steps),
        ("tee_expect_size", [name, bytes]) => expect_size(scenario, name, bytes),
        ("tee_expect_digest", [name, algorithm, hex]) => expect_digest(scenario, name, algorithm, hex),
        ("tee_read", [name, capacity]) => read(scenario, name, capacity),
        ("tee_read_all", [name, capacity]) => read_all(scenario, name, capacity),
        ("tee_is_caching", [name]) => scenario.tee(name).map(|tee| Output::ok(&tee.tee.is_caching().to_string())),
        ("tee_source_calls", [name]) => scenario.tee(name).map(|tee| Output::ok(&tee.calls.get().to_string())),
        ("tee_close", [name]) => close(scenario, name),
        ("fetch", [id, steps @ ..]) => fetch(scenario, id, steps),
        ("prefetch", []) => prefetch(scenario),
        _ => return None,
    })
}

impl Script {
    fn new(scenario: &Scenario, steps: &[&[u8]], may_expect: bool) -> Result<Self, Stop> {
        let mut script = Self::default();
        for step in steps {
            if script.fails {
                return Err(Stop::BadLine("a step after fail"));
            } else if *step == b"fail" {
                script.fails = true;
            } else if let Some(parameters) = step.strip_prefix(b"file:") {
                script.add_file(scenario, parameters)?;
            } else if is_data(step) {
                script.pieces.push_back(data(step)?);
            } else if may_expect {
                script.expectations.push(Expectation::new(text(step)?)?);
            } else {
                return Err(Stop::BadLine("no such step"));
            }
        }
        Ok(script)
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

    fn write_to(&self, writer: &mut Writer) -> image_cache::Result<()> {
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

impl Read for Source {
    /// Returns a piece that is larger than the buffer over several calls. No call returns parts of two pieces.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls.set(self.calls.get() + 1);
        match self.script.pieces.pop_front() {
            Some(mut piece) => {
                let length = piece.len().min(buffer.len());
                buffer[..length].copy_from_slice(&piece[..length]);
                if length < piece.len() {
                    piece.drain(..length);
                    self.script.pieces.push_front(piece);
                }
                Ok(length)
            }
            None if self.script.fails => Err(io::Error::other("the script fails here")),
            None => Ok(0),
        }
    }
}

fn open(scenario: &mut Scenario, name: &[u8], id: &[u8], steps: &[&[u8]]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let script = Script::new(scenario, steps, false)?;
    let calls = Rc::new(Cell::new(0));
    let source = Source { script, calls: Rc::clone(&calls) };
    let cache = scenario.cache()?;
    let opened = with_image_id(id, |id| cache.tee(id, source));
    Ok(scenario.insert(name, opened.map(|tee| Handle::Tee(Box::new(OpenTee { tee, calls })))))
}

fn expect_size(scenario: &mut Scenario, name: &[u8], bytes: &[u8]) -> OperationResult {
    let bytes = number(bytes)?;
    Ok(Output::status(scenario.tee(name)?.tee.expect_size(bytes)))
}

fn expect_digest(scenario: &mut Scenario, name: &[u8], algorithm: &[u8], hex: &[u8]) -> OperationResult {
    let (algorithm, hex) = (text(algorithm)?, text(hex)?);
    let tee = &mut scenario.tee(name)?.tee;
    let outcome = match Algorithm::from_name(algorithm) {
        Ok(algorithm) => tee.expect_digest(algorithm, hex),
        Err(unknown) => {
            // The C function gives up caching for an unknown algorithm, as for any digest that cannot be checked. An
            // `Algorithm` is always known, so a malformed digest has the same effect here.
            let _ = tee.expect_digest(Algorithm::Md5, "");
            Err(unknown)
        }
    };
    Ok(Output::status(outcome))
}

fn read(scenario: &mut Scenario, name: &[u8], capacity: &[u8]) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    let length = scenario.tee(name)?.tee.read(&mut buffer);
    Ok(Output::of(length, |length| words::fingerprint(&buffer[..length])))
}

/// Reads to the end or a failure, and prints the bytes in either case.
fn read_all(scenario: &mut Scenario, name: &[u8], capacity: &[u8]) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    let tee = &mut scenario.tee(name)?.tee;
    let mut bytes = Vec::new();
    let outcome = loop {
        match tee.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => break Err(error),
        }
    };
    Ok(Output::status(outcome).with_bytes(&bytes))
}

fn close(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    scenario.tee(name)?;
    scenario.handles.remove(text(name)?);
    Ok(Output::ok(""))
}

fn fetch(scenario: &mut Scenario, id: &[u8], steps: &[&[u8]]) -> OperationResult {
    let script = Script::new(scenario, steps, true)?;
    scenario.fetches.insert(text(id)?.to_owned(), script);
    Ok(Output::ok(""))
}

fn prefetch(scenario: &Scenario) -> OperationResult {
    let mut called = Vec::new();
    let outcome = scenario.cache()?.prefetch(|id, writer| {
        called.push(escape(id.as_bytes()));
        let failed = || Error::Source { image_id: id.to_owned(), cause: "the script fails here".to_owned() };
        let script = scenario.fetches.get(id).ok_or_else(failed)?;
        script.write_to(writer)?;
        if script.fails { Err(failed()) } else { Ok(()) }
    });
    Ok(Output::of(outcome, |done| format!("{} fetched {} failed called {}", done.fetched, done.failed, list(called))))
}
