//! Random operations on a real cache, compared after each step with a model in memory.

#![allow(missing_docs, reason = "the state machine's traits need public types")]

#[path = "../common/mod.rs"]
mod common;
mod reference;
mod system;

use image_cache::DriverChoice;
use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;

use system::CacheUnderTest;

/// Sequences for each driver, without `IMAGE_CACHE_MODEL_SEQUENCES`.
const SEQUENCES: u32 = 1_000;

fn config() -> Config {
    // A failure is printed in full; no file is written into the source tree.
    let cases = std::env::var("IMAGE_CACHE_MODEL_SEQUENCES").map_or(SEQUENCES, |number| number.parse().unwrap());
    Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() }
}

/// The driver as a type, which the state machine's traits need.
pub trait Driver: 'static {
    const CHOICE: DriverChoice;
}

#[derive(Debug)]
pub struct Sqlite;
impl Driver for Sqlite {
    const CHOICE: DriverChoice = DriverChoice::Sqlite;
}

#[derive(Debug)]
pub struct Xattr;
impl Driver for Xattr {
    const CHOICE: DriverChoice = DriverChoice::Xattr;
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn the_sqlite_driver_agrees_with_the_model(sequential 1..40 => CacheUnderTest<Sqlite>);

    #[test]
    fn the_xattr_driver_agrees_with_the_model(sequential 1..40 => CacheUnderTest<Xattr>);
}
