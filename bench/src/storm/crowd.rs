//! The readers of a storm: processes that want one object at the same time, and what all of them got.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::measure::median;
use crate::piped_child::PipedChild;
use crate::storm::origin::{Origin, SPEED, Taken};
use crate::storm::processes::{holder_of_connection, send};
use crate::storm::reader::{Got, Readers, Through, path_of};

pub const READERS: u32 = 100;
pub const PROCESSES: u32 = 8;

/// All arrive within these seconds.
pub const ARRIVALS: f64 = 0.5;

/// A reader that has not ended after these seconds is given up.
pub const LIMIT: f64 = 60.0;

/// An object that the readers want.
#[derive(Clone)]
pub struct Object {
    pub name: String,
    pub size: u64,
    pub digest: u64,
}

/// What the readers of one storm got, and what was taken from the origin.
pub struct Outcome {
    /// How many should get the object: all, without those of a killed process.
    pub readers: usize,
    pub whole: usize,
    /// The seconds to the first byte of all readers except the first one.
    pub first_bytes: Vec<f64>,
    /// When the last one had the object, if all got it.
    pub done: Option<f64>,
    pub taken: Taken,
    /// Why a reader failed, if one did.
    pub failure: Option<String>,
}

/// Runs so many readers. With `is_killed`, the process that fetches is killed when a third was taken from the origin.
pub fn run(
    program: &Path,
    origin: &Origin,
    through: &Through,
    object: &Object,
    count: u32,
    is_killed: bool,
) -> Result<Outcome> {
    let processes = count.min(PROCESSES);
    let start = |number: u32| {
        let readers = Readers {
            through: through.clone(),
            name: object.name.clone(),
            size: object.size,
            digest: object.digest,
            first: number * count / processes,
            end: (number + 1) * count / processes,
            of_all: count,
            arrivals: ARRIVALS,
            limit: LIMIT,
        };
        PipedChild::start(program, &["storm".to_owned(), serde_json::to_string(&readers)?])
    };
    let mut children = (0..processes).map(start).collect::<Result<Vec<_>>>()?;
    for child in &mut children {
        child.line()?.context("a process of readers did not begin")?;
    }
    let path = path_of(&object.name);
    let (killed, all) = thread::scope(|scope| {
        let killer = is_killed.then(|| scope.spawn(|| kill_fetcher(origin, &path, object.size)));
        let all = collect(&mut children);
        (killer.map(|killer| killer.join().expect("no thread panics")), all)
    });
    let (killed, all) = (killed.transpose()?, all?);
    let mut outcome = outcome_of(killed, &all);
    anyhow::ensure!(killed.is_some() || all.iter().all(|(_, got)| got.is_some()), "a process of readers has failed");
    outcome.taken = origin.taken(&path);
    Ok(outcome)
}

/// Kills the process that took the last bytes, and returns its number.
fn kill_fetcher(origin: &Origin, path: &str, size: u64) -> Result<u32> {
    let within = Duration::from_secs_f64(10.0 * size as f64 / SPEED as f64);
    let taken = origin.wait_until_taken(path, size / 3, within).context("nobody took a third from the origin")?;
    let process = holder_of_connection(taken.port, origin.address)?;
    send(Signal::KILL, process)?;
    Ok(process)
}

/// Each process, with what its readers got; `None` if it was killed.
fn collect(children: &mut [PipedChild]) -> Result<Vec<(u32, Option<Vec<Got>>)>> {
    for child in &mut *children {
        child.proceed()?;
    }
    let parse =
        |line: String| serde_json::from_str(&line).with_context(|| format!("a process of readers printed '{line}'"));
    children.iter_mut().map(|child| Ok((child.id(), child.line()?.map(parse).transpose()?))).collect()
}

fn outcome_of(killed: Option<u32>, all: &[(u32, Option<Vec<Got>>)]) -> Outcome {
    let got: Vec<&Got> =
        all.iter().filter(|(id, _)| Some(*id) != killed).flat_map(|(_, got)| got.iter().flatten()).collect();
    let whole: Vec<f64> = got.iter().filter_map(|got| got.whole).collect();
    let is_whole = !got.is_empty() && whole.len() == got.len();
    Outcome {
        readers: got.len(),
        whole: whole.len(),
        first_bytes: got.iter().filter(|got| got.number > 0).filter_map(|got| got.first_byte).collect(),
        done: is_whole.then(|| whole.into_iter().fold(0.0, f64::max)),
        taken: Taken::default(),
        failure: got.iter().find_map(|got| got.failure.clone()),
    }
}

impl Outcome {
    /// The median and the maximum.
    pub fn first_byte(&self) -> Option<(f64, f64)> {
        let mut all = self.first_bytes.clone();
        let worst = all.iter().copied().reduce(f64::max)?;
        Some((median(&mut all), worst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(number: u32, whole: Option<f64>) -> Got {
        Got { number, first_byte: Some(f64::from(number)), whole, failure: None }
    }

    #[test]
    fn all_are_done_when_the_last_one_is_and_only_if_each_is_whole() {
        let all = [(7, Some(vec![got(0, Some(5.0)), got(1, Some(6.0))])), (8, Some(vec![got(2, Some(5.5))]))];
        let outcome = outcome_of(None, &all);
        assert_eq!((outcome.readers, outcome.whole, outcome.done), (3, 3, Some(6.0)));
        assert_eq!(outcome.first_byte(), Some((1.5, 2.0)));
        let outcome = outcome_of(None, &[(7, Some(vec![got(0, Some(5.0)), got(1, None)]))]);
        assert_eq!((outcome.readers, outcome.whole, outcome.done), (2, 1, None));
    }

    #[test]
    fn the_readers_of_a_killed_process_do_not_count() {
        // The kill may come after its output.
        for of_killed in [None, Some(vec![got(0, None), got(1, None)])] {
            let outcome = outcome_of(Some(7), &[(7, of_killed), (8, Some(vec![got(2, Some(5.5))]))]);
            assert_eq!((outcome.readers, outcome.whole), (1, 1));
        }
    }
}
