//! What may stand under each image's name after a cut, by what the workload told until then.
//!
//! A durable commit that returned leaves one possibility. A commit that began, or was not synced, adds one; a deletion that
//! began adds that nothing is there, and takes nothing away, since deletions are not synced. What was found after a cut
//! is on the disk, and is the only possibility from there on.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::Version;
use crate::events::{Action, Event};

/// A version of an image, or nothing.
type Possibility = Option<Version>;

#[derive(Debug, Clone, Default)]
pub struct Promises {
    possible: BTreeMap<String, BTreeSet<Possibility>>,
    /// What each worker does now.
    in_progress: BTreeMap<usize, Begun>,
    /// Not synced yet, by the worker whose closing will do so.
    unsynced: BTreeMap<usize, BTreeMap<String, Begun>>,
    /// How many removals of any image began, and how many of them ended.
    removals: (u64, u64),
    history: Vec<String>,
    /// How many commits were acknowledged.
    pub acknowledged: u64,
}

#[derive(Debug, Clone)]
struct Begun {
    action: Action,
    /// How many removals of any image had ended by then.
    removals_ended: u64,
}

impl Promises {
    /// Takes record of an event. What a live cache must not do is an error.
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

    /// Whether an event, before it is noted, makes something durable that was not before.
    pub fn makes_durable(&self, event: &Event) -> bool {
        let Event::End(worker) = event else { return false };
        match self.in_progress.get(worker).map(|begun| &begun.action) {
            Some(Action::Commit { durable, .. }) => *durable,
            Some(Action::Close) => self.unsynced.get(worker).is_some_and(|commits| !commits.is_empty()),
            _ => false,
        }
    }

    /// The workload's process has ended, and with it all that was under way.
    pub fn end_workers(&mut self) {
        self.history.push("-- the end of the process".to_owned());
        self.in_progress.clear();
        self.unsynced.clear();
        self.removals = (0, 0);
    }

    /// An image, or that there is none, was found where only the disk can have it from.
    pub fn found(&mut self, id: &str, found: Possibility) -> Result<(), String> {
        let possible = self.of(id);
        if !possible.contains(&found) {
            let possible = possible.clone();
            return Err(format!("image '{id}' is {found:?}, and may be {possible:?} only\n{}", self.history_of(id)));
        }
        *possible = BTreeSet::from([found]);
        Ok(())
    }

    /// The ids of which anything was told.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.possible.keys().map(String::as_str)
    }

    /// How many images must be there.
    pub fn required(&self) -> usize {
        self.possible.values().filter(|possible| !possible.contains(&None)).count()
    }

    /// What was told of an image, newest last, for people.
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
            Action::Close | Action::Other(_) => {}
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
            Action::Remove { .. } | Action::Other(_) => {}
        }
    }

    /// A commit is on the disk. A removal of any image that went on since the commit began may have taken it away.
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
