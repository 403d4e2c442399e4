//! The versions that each image may have after a cut, by what the workload reported before it.
//!
//! A durable commit that returned leaves one possibility. A commit that began, or was not synced, adds one. A deletion
//! that began adds absence and removes nothing, since deletions are not synced. What was found after a cut is on the
//! disk, and is the only possibility from then on. A durable pin that returned lasts until its unpin begins. A hard limit that was set
//! is the limit until the next one begins to be set, with either durability.
//!
//! This oracle knows reports from before the cut, and no outcome of what was in progress. The crash sweep knows the
//! exact outcome of one operation (`tests/crash/expected.rs`), the races know times (`tests/races/history_checker.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::content::Version;
use crate::events::{Action, Event};

/// A version of an image, or its absence.
type Possibility = Option<Version>;

#[derive(Debug, Clone, Default)]
pub struct Promises {
    possible: BTreeMap<String, BTreeSet<Possibility>>,
    /// The action that each worker performs now.
    in_progress: BTreeMap<usize, Begun>,
    /// Commits that are not synced, by the worker whose close syncs them.
    unsynced: BTreeMap<usize, BTreeMap<String, Begun>>,
    /// How many removals of any image began, and how many ended.
    removals: (u64, u64),
    /// Images that are pinned, if they are there.
    pinned: BTreeSet<String>,
    /// What the hard limit may be: `None` for a soft one.
    limits: BTreeSet<Option<u64>>,
    history: Vec<String>,
    /// How many commits were acknowledged.
    pub acknowledged: u64,
}

#[derive(Debug, Clone)]
struct Begun {
    action: Action,
    /// How many removals of any image had ended when the action began.
    removals_ended: u64,
}

impl Promises {
    /// Records an event. A live cache's misbehaviour is an error.
    pub fn record(&mut self, event: &Event) -> Result<(), String> {
        let what = match event {
            Event::End(worker) => self.in_progress.get(worker).map(|begun| format!(" {}", begun.action)),
            _ => None,
        };
        self.history.push(format!("{event}{}", what.unwrap_or_default()));
        match event {
            Event::Begin(worker, action) => self.begins(*worker, action),
            Event::End(worker) => self.ended(*worker),
            Event::Found(id, found) => return self.found(id, *found),
            Event::Failed(_, why) => return Err(format!("without a cut: {why}")),
            Event::Wrong(what) => return Err(what.clone()),
        }
        Ok(())
    }

    /// Whether the event, before it is recorded, makes something durable.
    pub fn makes_durable(&self, event: &Event) -> bool {
        let Event::End(worker) = event else { return false };
        match self.in_progress.get(worker).map(|begun| &begun.action) {
            Some(Action::Commit { durable, .. } | Action::Pin { durable, .. }) => *durable,
            Some(Action::Limit { .. }) => true,
            Some(Action::Close) => self.unsynced.get(worker).is_some_and(|commits| !commits.is_empty()),
            _ => false,
        }
    }

    /// The workload's process has ended, and with it every action in progress.
    pub fn end_workers(&mut self) {
        self.history.push("-- the end of the process".to_owned());
        self.in_progress.clear();
        self.unsynced.clear();
        self.removals = (0, 0);
    }

    /// An image was found, or found absent, when only the disk can have it.
    pub fn found(&mut self, id: &str, found: Possibility) -> Result<(), String> {
        let possible = self.of(id);
        if !possible.contains(&found) {
            let possible = possible.clone();
            return Err(format!("image '{id}' is {found:?}, and may be {possible:?} only\n{}", self.history_of(id)));
        }
        *possible = BTreeSet::from([found]);
        Ok(())
    }

    /// The ids of all images in the reports.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.possible.keys().map(String::as_str)
    }

    /// The images that are pinned, if they are there.
    pub fn pinned(&self) -> impl Iterator<Item = &str> {
        self.pinned.iter().map(String::as_str)
    }

    /// An image is not there, so that the next clean removes its pins.
    pub fn forget_pin(&mut self, id: &str) {
        self.pinned.remove(id);
    }

    /// A limit was found when only the disk can have it: `None` for a soft one.
    pub fn found_limit(&mut self, found: Option<u64>) -> Result<(), String> {
        if !self.limits.is_empty() && !self.limits.contains(&found) {
            return Err(format!("the hard limit is {found:?}, and may be {:?} only", self.limits));
        }
        self.limits = BTreeSet::from([found]);
        Ok(())
    }

    /// How many images must be there.
    pub fn required(&self) -> usize {
        self.possible.values().filter(|possible| !possible.contains(&None)).count()
    }

    /// The newest reports on an image, for an error message.
    pub fn history_of(&self, id: &str) -> String {
        const LINES: usize = 40;
        let word = format!(" {id}");
        let bears_on_it =
            |line: &&String| [&word, "remove_any", "close", "process"].iter().any(|part| line.contains(part));
        let mut lines: Vec<_> =
            self.history.iter().rev().filter(bears_on_it).take(LINES).map(|line| format!("    {line}\n")).collect();
        lines.reverse();
        lines.concat()
    }

    fn of(&mut self, id: &str) -> &mut BTreeSet<Possibility> {
        self.possible.entry(id.to_owned()).or_insert_with(|| BTreeSet::from([None]))
    }

    fn begins(&mut self, worker: usize, action: &Action) {
        match action {
            Action::Commit { id, version, .. } => drop(self.of(id).insert(Some(*version))),
            Action::Remove { id } => {
                self.of(id).insert(None);
                self.unsynced.entry(worker).or_default().remove(id);
            }
            Action::RemoveAny => {
                self.removals.0 += 1;
                for possible in self.possible.values_mut() {
                    possible.insert(None);
                }
            }
            Action::Unpin { id } => drop(self.pinned.remove(id)),
            Action::Limit { bytes } => {
                if self.limits.is_empty() {
                    self.limits.insert(None);
                }
                self.limits.insert(Some(*bytes));
            }
            Action::Pin { .. } | Action::Close | Action::Other(_) => {}
        }
        self.in_progress.insert(worker, Begun { action: action.clone(), removals_ended: self.removals.1 });
    }

    fn ended(&mut self, worker: usize) {
        let Some(begun) = self.in_progress.remove(&worker) else { return };
        match &begun.action {
            Action::Commit { durable: true, .. } => {
                self.acknowledged += 1;
                self.is_durable(&begun);
            }
            Action::Commit { id, durable: false, .. } => {
                self.acknowledged += 1;
                self.unsynced.entry(worker).or_default().insert(id.clone(), begun);
            }
            Action::RemoveAny => self.removals.1 += 1,
            Action::Close => {
                for begun in self.unsynced.remove(&worker).unwrap_or_default().into_values() {
                    self.is_durable(&begun);
                }
            }
            Action::Pin { id, durable: true } => drop(self.pinned.insert(id.clone())),
            Action::Limit { bytes } => self.limits = BTreeSet::from([Some(*bytes)]),
            Action::Pin { .. } | Action::Unpin { .. } | Action::Remove { .. } | Action::Other(_) => {}
        }
    }

    /// A commit is durable. A removal of any image since the commit began may have removed it.
    fn is_durable(&mut self, commit: &Begun) {
        let Action::Commit { id, version, .. } = &commit.action else { return };
        let undisturbed = self.removals.0 == commit.removals_ended;
        let possible = self.of(id);
        if undisturbed {
            *possible = BTreeSet::from([Some(*version)]);
        } else {
            possible.insert(None);
        }
    }
}
