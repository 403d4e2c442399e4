//! Operations on streams over scripted sources, and the wait for an image.

use std::rc::Rc;
use std::time::Duration;

use image_cache::{Algorithm, Error, Stream, StreamRole};

use super::cache::with_image_id;
use super::source::{Counters, Script, Source, read_all, read_once};
use super::words::{number, text};
use super::{Handle, OperationResult, Output, Scenario, Stop};

pub struct OpenStream {
    stream: Stream<Source>,
    counters: Rc<Counters>,
}

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    Some(match (name, arguments) {
        ("stream_open", [name, id, steps @ ..]) => open(scenario, name, id, steps),
        ("stream_expect_size", [name, bytes]) => expect_size(scenario, name, bytes),
        ("stream_expect_digest", [name, algorithm, hex]) => expect_digest(scenario, name, algorithm, hex),
        ("stream_set_timeout", [name, milliseconds]) => set_timeout(scenario, name, milliseconds),
        ("stream_set_source_timeout", [name, milliseconds]) => set_source_timeout(scenario, name, milliseconds),
        ("stream_read", [name, capacity]) => {
            scenario.stream(name).and_then(|open| read_once(capacity, |buffer| open.stream.read(buffer)))
        }
        ("stream_read_all", [name, capacity]) => {
            scenario.stream(name).and_then(|open| read_all(capacity, |buffer| open.stream.read(buffer)))
        }
        ("stream_read_at", [name, offset, capacity]) => read_at(scenario, name, offset, capacity),
        ("stream_role", [name]) => value_of(scenario, name, |open| role(open.stream.role()).to_owned()),
        ("stream_available", [name]) => value_of(scenario, name, |open| open.stream.available().to_string()),
        ("stream_source_calls", [name]) => value_of(scenario, name, |open| open.counters.calls.get().to_string()),
        ("stream_source_bytes", [name]) => value_of(scenario, name, |open| open.counters.bytes.get().to_string()),
        ("stream_close", [name]) => close(scenario, name),
        ("wait_cached", [id, milliseconds]) => wait_cached(scenario, id, milliseconds),
        _ => return None,
    })
}

fn value_of(scenario: &mut Scenario, name: &[u8], value: impl FnOnce(&OpenStream) -> String) -> OperationResult {
    scenario.stream(name).map(|open| Output::ok(&value(open)))
}

fn role(role: StreamRole) -> &'static str {
    match role {
        StreamRole::Cached => "cached",
        StreamRole::Fetching => "fetching",
        StreamRole::Following => "following",
        StreamRole::Alone => "alone",
    }
}

fn milliseconds_of(word: &[u8]) -> Result<Duration, Stop> {
    number(word).map(Duration::from_millis)
}

fn open(scenario: &mut Scenario, name: &[u8], id: &[u8], steps: &[&[u8]]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let (source, counters) = Source::new(Script::new(scenario, steps, false)?);
    let cache = scenario.cache()?;
    let opened = with_image_id(id, |id| cache.stream(id, source));
    Ok(scenario.insert(name, opened.map(|stream| Handle::Stream(Box::new(OpenStream { stream, counters })))))
}

fn expect_size(scenario: &mut Scenario, name: &[u8], bytes: &[u8]) -> OperationResult {
    let bytes = number(bytes)?;
    Ok(Output::status(scenario.stream(name)?.stream.expect_size(bytes)))
}

fn expect_digest(scenario: &mut Scenario, name: &[u8], algorithm: &[u8], hex: &[u8]) -> OperationResult {
    let (algorithm, hex) = (text(algorithm)?, text(hex)?);
    let stream = &mut scenario.stream(name)?.stream;
    Ok(Output::status(Algorithm::from_name(algorithm).and_then(|algorithm| stream.expect_digest(algorithm, hex))))
}

/// For ever with 0, as in C.
fn set_timeout(scenario: &mut Scenario, name: &[u8], milliseconds: &[u8]) -> OperationResult {
    let timeout = milliseconds_of(milliseconds)?;
    let timeout = (!timeout.is_zero()).then_some(timeout);
    Ok(Output::status(scenario.stream(name)?.stream.set_timeout(timeout)))
}

/// The C function refuses 0.
fn set_source_timeout(scenario: &mut Scenario, name: &[u8], milliseconds: &[u8]) -> OperationResult {
    let timeout = milliseconds_of(milliseconds)?;
    let stream = &mut scenario.stream(name)?.stream;
    if timeout.is_zero() {
        return Ok(Output::failed(&Error::InvalidArgument("milliseconds is 0".to_owned())));
    }
    Ok(Output::status(stream.set_source_timeout(timeout)))
}

fn read_at(scenario: &mut Scenario, name: &[u8], offset: &[u8], capacity: &[u8]) -> OperationResult {
    let offset = number(offset)?;
    let stream = &mut scenario.stream(name)?.stream;
    read_once(capacity, |buffer| stream.read_at(offset, buffer))
}

fn close(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    scenario.stream(name)?;
    scenario.handles.remove(text(name)?);
    Ok(Output::ok(""))
}

fn wait_cached(scenario: &Scenario, id: &[u8], milliseconds: &[u8]) -> OperationResult {
    let (cache, timeout) = (scenario.cache()?, milliseconds_of(milliseconds)?);
    Ok(Output::of(with_image_id(id, |id| cache.wait_cached(id, timeout)), |is_cached| is_cached.to_string()))
}
