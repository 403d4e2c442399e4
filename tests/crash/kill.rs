//! The kill sweep: an operation is killed before each of its system calls in turn, and every promise is checked after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Completion, Failed};

use crate::child;
use crate::counts::COUNTS;
use crate::operations::{Operation, RECOVERY, operations};
use crate::place::Place;
use crate::promises::{Expected, check_all};
use crate::scene::{Manner, copy_tree};
use crate::state::State;
use crate::tracer::{Decision, End, Event, trace};

/// More calls than any operation makes.
const ENDLESS: usize = 20_000;

/// How far a killed process got.
struct Killed {
    /// The call that it was about to make; `None` for the end of the operation.
    before: Option<String>,
}

/// Why a sweep stops.
pub enum Stop {
    NotPermitted,
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn completed(result: Result<(), Stop>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::NotPermitted) => Ok(Completion::ignored_with("ptrace is not permitted")),
        Err(Stop::Failed(failed)) => Err(failed),
    }
}

/// Kills the operation before its call of that number; `None` when it makes fewer.
fn kill_at(operation: &Operation, directory: &Path, manner: Manner, point: usize) -> Result<Option<Killed>, Stop> {
    let mut seen = 0;
    let mut before = None;
    let traced = trace(&mut child::command(operation, directory, manner), |_, event| {
        let is_it = seen == point;
        seen += 1;
        if is_it {
            before = match event {
                Event::Call(call) => Some(call.name()),
                Event::Returned => None,
            };
        }
        if is_it || seen > ENDLESS { Decision::Kill } else { Decision::Continue }
    })?;
    match traced.end {
        End::Killed if seen > ENDLESS => Err(format!("'{}' does not end", operation.name).into()),
        End::Killed => Ok(Some(Killed { before })),
        End::Exited(0) => Ok(None),
        End::NotPermitted => Err(Stop::NotPermitted),
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.complaints).into()),
    }
}

fn complaint(operation: &Operation, point: usize, killed: &Killed, what: &str) -> Failed {
    let before = killed.before.as_deref().unwrap_or("its return");
    format!("'{}' was killed at point {point}, before {before}: {what}", operation.name).into()
}

/// Sweeps one operation.
pub fn sweep(operation: &'static Operation, manner: Manner) -> Result<Completion, Failed> {
    completed(try_sweep(operation, manner))
}

fn try_sweep(operation: &'static Operation, manner: Manner) -> Result<(), Stop> {
    let place = Place::new()?;
    let scene = place.path("scene");
    operation.scene.build(&scene, manner);
    for point in 0.. {
        let directory = place.empty("cache")?;
        copy_tree(&scene, &directory)?;
        let Some(killed) = kill_at(operation, &directory, manner, point)? else { return Ok(()) };
        let expected = Expected::after(operation, killed.before.is_none());
        check_all(&directory, &scene, &place.folder("scratch")?, manner, &expected)
            .map_err(|what| complaint(operation, point, &killed, &what))?;
        COUNTS.kills.add(1);
    }
    Ok(())
}

/// A directory as a kill left it.
struct Left {
    directory: PathBuf,
    scene: PathBuf,
    manner: Manner,
    operation: &'static Operation,
    point: usize,
    returned: bool,
}

/// Sweeps the recovery from each state in which a kill of any operation can leave the directory.
pub fn sweep_recovery(manners: &[Manner]) -> Result<Completion, Failed> {
    completed(try_sweep_recovery(manners))
}

fn try_sweep_recovery(manners: &[Manner]) -> Result<(), Stop> {
    let place = Place::new()?;
    let jobs: Vec<_> =
        manners.iter().flat_map(|manner| operations(*manner).map(|operation| (operation, *manner))).collect();
    let states = Mutex::new(BTreeMap::new());
    in_parallel(jobs, |(operation, manner)| collect_states(&place, operation, manner, &states))?;
    let states = states.into_inner().unwrap_or_else(PoisonError::into_inner);
    COUNTS.states.add(states.len());
    in_parallel(states.into_values().collect(), |left| sweep_recovery_from(&left))
}

/// Kills an operation at each of its points, and keeps what is left where nothing like it was left before.
fn collect_states(
    place: &Place,
    operation: &'static Operation,
    manner: Manner,
    states: &Mutex<BTreeMap<State, Left>>,
) -> Result<(), Stop> {
    let name = format!("{}-{}", operation.name, manner.durability_name());
    let scene = place.path(&format!("{name}-scene"));
    operation.scene.build(&scene, manner);
    let scratch = place.folder(&format!("{name}-scratch"))?;
    for point in 0.. {
        let directory = place.path(&format!("{name}-{point}"));
        copy_tree(&scene, &directory)?;
        let Some(killed) = kill_at(operation, &directory, manner, point)? else { break };
        let state = State::of(&directory, &scene, &scratch)?;
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.contains_key(&state) {
            place.remove(&directory)?;
        } else {
            let returned = killed.before.is_none();
            states.insert(state, Left { directory, scene: scene.clone(), manner, operation, point, returned });
        }
    }
    Ok(())
}

fn sweep_recovery_from(left: &Left) -> Result<(), Stop> {
    let place = Place::new()?;
    let mut expected = Expected::after(left.operation, left.returned);
    expected.add(RECOVERY.effects);
    for point in 0.. {
        let directory = place.empty("cache")?;
        copy_tree(&left.directory, &directory)?;
        let Some(killed) = kill_at(&RECOVERY, &directory, left.manner, point)? else { return Ok(()) };
        check_all(&directory, &left.scene, &place.folder("scratch")?, left.manner, &expected).map_err(|what| {
            let first = format!("after '{}' was killed at its point {}: {what}", left.operation.name, left.point);
            complaint(&RECOVERY, point, &killed, &first)
        })?;
        COUNTS.recovery_kills.add(1);
    }
    Ok(())
}

/// Does the jobs on as many threads as there are processors; the first failure ends it.
fn in_parallel<J: Send>(jobs: Vec<J>, work: impl Fn(J) -> Result<(), Stop> + Sync) -> Result<(), Stop> {
    let jobs = Mutex::new(jobs);
    let failure = Mutex::new(None);
    let next = || {
        let has_failed = failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if has_failed { None } else { jobs.lock().unwrap_or_else(PoisonError::into_inner).pop() }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if let Err(stop) = work(job) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
