//! A second static Rust library, with its own standard library, panics and threads.

use std::panic::catch_unwind;
use std::thread;

/// Returns the number of caught panics. Prints none of them.
#[unsafe(no_mangle)]
pub extern "C" fn second_rust_panics(times: u32) -> u32 {
    std::panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..times)
        .map(|n| thread::spawn(move || u32::from(catch_unwind(|| panic!("on purpose, {n}")).is_err())))
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}
