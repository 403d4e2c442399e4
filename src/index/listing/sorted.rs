//! Sorts ids in little memory: packed runs, each sorted, are merged. As strings, all ids together would need more than the listing
//! that is made of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::Result;
use crate::index::listing::chunks::Chunks;
use crate::index::listing::entry::PackedId;
use crate::sys::memory;

/// How many ids are strings at a time.
const RUN: usize = 32 << 10;

/// Sorts ids. Fails with the first error among them.
pub(crate) fn sort_ids(ids: impl Iterator<Item = Result<String>>) -> Result<impl Iterator<Item = String>> {
    let mut runs = Vec::new();
    let mut strings = Vec::new();
    for id in ids {
        memory::push(&mut strings, id?, "sort the images")?;
        if strings.len() == RUN {
            runs.push(pack(&mut strings)?);
        }
    }
    runs.push(pack(&mut strings)?);
    drop(strings);
    let first = runs.iter_mut().enumerate().filter_map(|(number, run)| Some(Reverse((pop(run)?, number)))).collect();
    let mut first: BinaryHeap<_> = first;
    Ok(std::iter::from_fn(move || {
        let Reverse((id, number)) = first.pop()?;
        first.extend(pop(&mut runs[number]).map(|id| Reverse((id, number))));
        Some(id)
    }))
}

/// Sorts and packs a run of ids, and empties the vector.
fn pack(ids: &mut Vec<String>) -> Result<Chunks> {
    ids.sort_unstable();
    let mut run = Chunks::default();
    ids.drain(..).try_for_each(|id| run.push(&PackedId::from(id.as_str())))?;
    Ok(run)
}

fn pop(run: &mut Chunks) -> Option<String> {
    run.pop(|bytes| postcard::take_from_bytes::<PackedId<'_>>(bytes).map(|(id, rest)| (id.into(), rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn ids_of_many_runs_are_sorted() {
        // Three runs and a few more, shuffled. Some are UUIDs, which are packed differently.
        let ids: Vec<_> = (0..3 * RUN + 5)
            .map(|number| number * 48_271 % 99_991)
            .map(|number| match number % 3 {
                0 => format!("{number:08x}-0000-4000-8000-000000000000"),
                1 => format!("{number:08X}-0000-4000-8000-000000000000"),
                _ => format!("{number}"),
            })
            .collect();
        let found: Vec<_> = sort_ids(ids.iter().cloned().map(Ok)).unwrap().collect();
        let mut expected = ids;
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn no_id_one_id_and_an_error() {
        assert_eq!(sort_ids(std::iter::empty()).unwrap().count(), 0);
        assert_eq!(sort_ids(std::iter::once(Ok("one".to_owned()))).unwrap().collect::<Vec<_>>(), ["one"]);
        let failing = [Ok("one".to_owned()), Err(Error::Internal("no names".to_owned()))];
        assert!(sort_ids(failing.into_iter()).is_err());
    }
}
