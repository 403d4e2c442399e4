//! Tees over scripted sources, and prefetch with scripted fetches.

use std::rc::Rc;

use image_cache::{Algorithm, Error, Tee};

use super::cache::with_image_id;
use super::source::{Counters, Script, Source, read_all, read_once};
use super::words::{escape, list, number, text};
use super::{Handle, OperationResult, Output, Scenario};

pub struct OpenTee {
    tee: Tee<Source>,
    counters: Rc<Counters>,
}

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    Some(match (name, arguments) {
        ("tee_open", [name, id, steps @ ..]) => open(scenario, name, id, steps),
        ("tee_expect_size", [name, bytes]) => expect_size(scenario, name, bytes),
        ("tee_expect_digest", [name, algorithm, hex]) => expect_digest(scenario, name, algorithm, hex),
        ("tee_read", [name, capacity]) => {
            scenario.tee(name).and_then(|open| read_once(capacity, |buffer| open.tee.read(buffer)))
        }
        ("tee_read_all", [name, capacity]) => {
            scenario.tee(name).and_then(|open| read_all(capacity, |buffer| open.tee.read(buffer)))
        }
        ("tee_is_caching", [name]) => scenario.tee(name).map(|tee| Output::ok(&tee.tee.is_caching().to_string())),
        ("tee_source_calls", [name]) => scenario.tee(name).map(|tee| Output::ok(&tee.counters.calls.get().to_string())),
        ("tee_close", [name]) => close(scenario, name),
        ("fetch", [id, steps @ ..]) => fetch(scenario, id, steps),
        ("prefetch", []) => prefetch(scenario),
        _ => return None,
    })
}

fn open(scenario: &mut Scenario, name: &[u8], id: &[u8], steps: &[&[u8]]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let (source, counters) = Source::new(Script::new(scenario, steps, false)?);
    let cache = scenario.cache()?;
    let opened = with_image_id(id, |id| cache.tee(id, source));
    Ok(scenario.insert(name, opened.map(|tee| Handle::Tee(Box::new(OpenTee { tee, counters })))))
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
        if script.fails() { Err(failed()) } else { Ok(()) }
    });
    Ok(Output::of(outcome, |done| format!("{} fetched {} failed called {}", done.fetched, done.failed, list(called))))
}
