//! The running hash in a stream's record (see `stream_record`), and its format: what one process has hashed, another one need not.
//!
//! It is written without a lock, so that two processes may write it at once, and a reader may see a part of each: a checksum tells.
//! Any intact one is right, the latest or not, since the image's file only grows.

use crate::digest::algorithm::Algorithm;
use crate::digest::hasher::SavedHash;
use crate::digest::state::{HashState, SAVED};

/// The places of the states.
const ALGORITHMS: [Algorithm; 4] = Algorithm::ALL;

/// First the number of hashed bytes, then a byte for each algorithm, 1 if it has a state, then the states. In bytes.
const PRESENT_AT: usize = 8;
const STATES_AT: usize = 16;
const CHECKSUM_AT: usize = STATES_AT + ALGORITHMS.len() * SAVED;
/// At the end the SHA-256 of what is before it, as hexadecimal digits.
pub(super) const LENGTH: usize = CHECKSUM_AT + 64;

pub(super) fn to_bytes(saved: &SavedHash) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..PRESENT_AT].copy_from_slice(&saved.hashed.to_le_bytes());
    for (place, algorithm) in ALGORITHMS.iter().enumerate() {
        if let Some((_, state)) = saved.states.iter().find(|(known, _)| known == algorithm) {
            bytes[PRESENT_AT + place] = 1;
            bytes[STATES_AT + place * SAVED..][..SAVED].copy_from_slice(state);
        }
    }
    let checksum = checksum(&bytes[..CHECKSUM_AT]);
    bytes[CHECKSUM_AT..].copy_from_slice(checksum.as_bytes());
    bytes
}

/// `None` when nothing intact is there.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<SavedHash> {
    let (checked, expected) = bytes.get(..LENGTH)?.split_at(CHECKSUM_AT);
    if checksum(checked).as_bytes() != expected {
        return None;
    }
    let (numbers, states) = checked.split_at(STATES_AT);
    let hashed = hashed(numbers);
    let is_present = |place: usize| numbers[PRESENT_AT + place] != 0;
    let places = ALGORITHMS.into_iter().zip(states.as_chunks().0).enumerate();
    let states = places.filter(|(place, _)| is_present(*place)).map(|(_, (algorithm, state))| (algorithm, *state));
    Some(SavedHash { hashed, states: states.collect() })
}

/// The number of hashed bytes, unchecked; 0 when nothing is there.
pub(super) fn hashed(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}

fn checksum(bytes: &[u8]) -> String {
    let mut state = HashState::new(Algorithm::Sha256);
    state.update(bytes);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_hash_is_none() {
        let saved =
            SavedHash { hashed: 7, states: vec![(Algorithm::Sha256, [3; SAVED]), (Algorithm::Sha512, [5; SAVED])] };
        let bytes = to_bytes(&saved);
        assert_eq!(from_bytes(&bytes), Some(saved));
        for at in [0, PRESENT_AT, STATES_AT + SAVED + 5, CHECKSUM_AT, LENGTH - 1] {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(from_bytes(&damaged), None, "{at}");
        }
        assert_eq!(from_bytes(&bytes[1..]), None);
        assert_eq!(from_bytes(&[]), None);
    }
}
