//! Mutations of a file's bytes. Each has a name, and the same bytes in every run.

use std::collections::BTreeMap;

use crate::fixture::{Fixture, Outcome};

/// One mutated file.
pub struct Mutation {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Whether every offset and every pair of pages is tried; otherwise as many as a minute allows.
pub fn is_full_run() -> bool {
    std::env::var_os("IMAGE_CACHE_CORRUPTION").is_some_and(|value| value == "all")
}

/// Pseudo-random bytes, the same in every run.
pub fn noise(fixture: usize) -> impl Iterator<Item = u8> {
    let mut state = (fixture as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    })
}

type Change = fn(u8) -> u8;

/// Changes each byte from `from` to `to`, at distances of `stride`: in all ways, or in one way each.
pub fn bytes(original: &[u8], from: usize, to: usize, stride: usize, in_all_ways: bool) -> Vec<Mutation> {
    let ways: [(&str, Change); 5] = [
        ("inverted", |byte| !byte),
        ("made 0", |_| 0),
        ("one bit off", |byte| byte ^ 1),
        ("made 255", |_| 255),
        ("one more", |byte| byte.wrapping_add(1)),
    ];
    let mut mutations = Vec::new();
    for (number, offset) in (from..to.min(original.len())).step_by(stride).enumerate() {
        for (way, (name, change)) in ways.iter().enumerate() {
            let changed = change(original[offset]);
            if (in_all_ways || way == number % ways.len()) && changed != original[offset] {
                let mut bytes = original.to_vec();
                bytes[offset] = changed;
                mutations.push(Mutation { name: format!("byte {offset} {name}"), bytes });
            }
        }
    }
    mutations
}

/// The file truncated at each page's end, just before and after it, and within it.
pub fn truncations(original: &[u8], page: usize, header: usize) -> Vec<Mutation> {
    let ends = (0..=original.len() / page).map(|number| header + number * page);
    let lengths = ends.flat_map(|end| [end.saturating_sub(1), end, end + 1, end + 100, end + page / 2]);
    lengths
        .chain((0..header.max(page)).step_by(61))
        .filter(|length| *length < original.len())
        .map(|length| Mutation { name: format!("cut off at {length}"), bytes: original[..length].to_vec() })
        .collect()
}

/// Pages replaced by another page, zeros, noise, or nothing.
pub fn pages(original: &[u8], page: usize, header: usize) -> Vec<Mutation> {
    let count = (original.len() - header.min(original.len())) / page;
    let mut mutations = Vec::new();
    let range = |number: usize| header + number * page..header + (number + 1) * page;
    for number in 0..count {
        let mut replace = |name: String, with: Vec<u8>| {
            let mut bytes = original.to_vec();
            bytes.splice(range(number), with);
            mutations.push(Mutation { name: format!("page {number} {name}"), bytes });
        };
        replace("zero".to_owned(), vec![0; page]);
        replace("noise".to_owned(), noise(number).take(page).collect());
        replace("missing".to_owned(), Vec::new());
        replace("twice".to_owned(), original[range(number)].repeat(2));
        for other in (0..count).filter(|other| *other != number) {
            if is_full_run() || other % 7 == number % 7 || count < 9 {
                replace(format!("as page {other}"), original[range(other)].to_vec());
            }
        }
    }
    mutations
}

/// Files that were never a file of the index.
pub fn foreign_files(magic: &[u8]) -> Vec<Mutation> {
    let lengths = [0, 1, 15, 16, 17, 31, 32, 99, 100, 101, 511, 512, 513, 1023, 4095, 4096, 4097, 8192, 20_000, 65_536];
    let mut mutations = Vec::new();
    for length in lengths {
        let noise: Vec<u8> = noise(length).take(length).collect();
        let behind_magic = [magic, &noise].concat();
        mutations.push(Mutation { name: format!("{length} bytes of noise"), bytes: noise });
        mutations.push(Mutation { name: format!("{length} bytes of noise behind the magic"), bytes: behind_magic });
        mutations.push(Mutation { name: format!("{length} zeros"), bytes: vec![0; length] });
    }
    mutations
}

/// Puts each mutation in place of one of the index's files, checks the cache, and prints how many cases ended how.
pub fn sweep(
    subject: &str,
    fixture: &Fixture,
    file: &str,
    mutations: &[Mutation],
    may_refuse: impl Fn(&Mutation) -> bool,
) -> Result<(), libtest_mimic::Failed> {
    let mut counts = BTreeMap::<Outcome, usize>::new();
    let mut violations = Vec::new();
    for mutation in mutations {
        fixture.restore_with(file, &mutation.bytes);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fixture.check(may_refuse(mutation))));
        match outcome.unwrap_or_else(|_| Err("a panic".to_owned())).and_then(|outcome| check_refused(fixture, outcome))
        {
            Ok(outcome) => *counts.entry(outcome).or_default() += 1,
            Err(violation) => violations.push(format!("{}: {violation}", mutation.name)),
        }
    }
    let count = |outcome| counts.get(&outcome).copied().unwrap_or(0);
    println!(
        "swept: {subject}: {} cases of {file}: {} whole, {} repaired, {} refused, {} violations",
        mutations.len(),
        count(Outcome::Unharmed),
        count(Outcome::Repaired),
        count(Outcome::Refused),
        violations.len(),
    );
    if violations.is_empty() {
        return Ok(());
    }
    violations.truncate(std::env::var("IMAGE_CACHE_CORRUPTION_SHOWN").map_or(12, |shown| shown.parse().unwrap()));
    Err(violations.join("\n").into())
}

/// A refused cache keeps all its images.
fn check_refused(fixture: &Fixture, outcome: Outcome) -> Result<Outcome, String> {
    if outcome == Outcome::Refused {
        fixture.has_all_files()?;
    }
    Ok(outcome)
}
