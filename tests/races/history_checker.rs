//! Checks whether a cache that keeps its promises allows the recorded history.
//!
//! This oracle knows when each operation began and ended, not in which order overlapping ones took effect. So it states
//! only what every order allows. The model knows the order (`tests/model/reference.rs`), the crash sweep the one
//! operation (`tests/crash/expected.rs`), the power cuts what was durable (`tests/power/promises.rs`).

use std::collections::BTreeMap;

use crate::history::Operation;

/// What was wrong, in sentences.
pub type Violations = Vec<String>;

const FOR_EVER: u64 = u64::MAX;

/// Checks the reads and commits of each image.
pub fn check_history(history: &[Operation]) -> Violations {
    let mut violations = Vec::new();
    let mut images: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        images.entry(&operation.image).or_default().push(operation);
    }
    for (image, operations) in &images {
        let Some((cache, _)) = image.split_once('/') else { continue };
        // Removals from the whole cache concern each image.
        let removals: Vec<_> = operations
            .iter()
            .chain(images.get(cache).into_iter().flatten())
            .copied()
            .filter(|operation| ["delete", "delete_all", "prune"].contains(&operation.action.as_str()))
            .collect();
        let of_action = |action| operations.iter().copied().filter(move |operation| operation.action == action);
        let commits: Vec<_> = of_action("commit").collect();
        check_reads(image, &commits, &removals, of_action("read"), &mut violations);
        check_commits(image, &commits, &removals, &mut violations);
    }
    violations
}

/// A read serves a version that was committed, and not deleted before the read began.
fn check_reads<'a>(
    image: &str,
    commits: &[&Operation],
    removals: &[&Operation],
    reads: impl Iterator<Item = &'a Operation>,
    violations: &mut Violations,
) {
    let commits: BTreeMap<_, _> = commits.iter().filter_map(|commit| Some((commit.version?, *commit))).collect();
    let mut deletions: Vec<_> = removals
        .iter()
        .filter(|removal| removal.action == "delete" && removal.succeeded)
        .filter_map(|removal| Some((removal.ended?, removal.begun)))
        .collect();
    deletions.sort_unstable();
    // The latest start of all deletions that had ended by then.
    let mut latest = 0;
    for (_, begun) in &mut deletions {
        latest = latest.max(*begun);
        *begun = latest;
    }
    for read in reads {
        let (Some(version), Some(opened)) = (read.version, read.opened) else { continue };
        let Some(commit) = commits.get(&version) else {
            violations.push(format!("{image}: version {version} was served, and never written"));
            continue;
        };
        if commit.ended.is_some() && !commit.succeeded {
            violations.push(format!("{image}: version {version} was served, and its commit failed"));
        }
        if commit.begun > opened {
            violations.push(format!("{image}: version {version} was served before its commit began"));
        }
        let ended_before = deletions.partition_point(|(ended, _)| *ended < read.begun);
        let latest_deletion = ended_before.checked_sub(1).map_or(0, |last| deletions[last].1);
        if commit.ended.is_some_and(|committed| committed < latest_deletion) {
            violations.push(format!("{image}: version {version} was served after it had been deleted"));
        }
    }
}

/// Between two commits of an image a removal took effect.
fn check_commits(image: &str, commits: &[&Operation], removals: &[&Operation], violations: &mut Violations) {
    let mut succeeded: Vec<_> = commits.iter().filter(|commit| commit.ended.is_some() && commit.succeeded).collect();
    succeeded.sort_unstable_by_key(|commit| commit.begun);
    for pair in succeeded.windows(2) {
        // The record does not order the two: a commit's first line is written before the commit takes the image.
        let (start, end) = (pair[0].begun, pair[0].ended.max(pair[1].ended).unwrap_or(FOR_EVER));
        if !removals.iter().any(|removal| removal.begun < end && removal.ended.unwrap_or(FOR_EVER) > start) {
            let (one, other) = (pair[0].version, pair[1].version);
            violations.push(format!("{image}: {one:?} and {other:?} were published, and nothing removed it between"));
        }
    }
}
