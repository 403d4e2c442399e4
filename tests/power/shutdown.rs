//! Cuts by the file system's shutdown call: everything that is not on the log or the disk is lost at once.

use image_cache::DriverChoice;

use crate::check::check_volume;
use crate::counters::Counters;
use crate::promises::Promises;
use crate::session::{Durabilities, Session};
use crate::volume::{FileSystem, Volume, scratch};
use crate::workload;

/// How many events a workload has at most.
const MAX_EVENTS: usize = 300;

/// Cuts one volume again and again, and checks it after each cut, or after the next one.
pub fn sweep(
    kind: FileSystem,
    driver: DriverChoice,
    durabilities: Durabilities,
    cuts: usize,
    random: &mut fastrand::Rng,
) -> Result<Counters, String> {
    let scratch = scratch().map_err(|error| error.to_string())?;
    let (image, point) = (scratch.path().join("image"), scratch.path().join("volume"));
    let failed = |error: std::io::Error| error.to_string();
    kind.format(&image).map_err(failed)?;
    let mut volume = Volume::mount(&image, &point).map_err(failed)?;
    let mut promises = Promises::default();
    let mut counters = Counters::default();
    let mut is_recovered = true;
    for cut in 1..=cuts {
        let generation = cut as u64;
        let mut session = Session::start(&point, driver, durabilities, generation, random.u64(..)).map_err(failed)?;
        run_until(&volume, &mut session, &mut promises, is_recovered, random)?;
        session.kill().map_err(failed)?;
        volume.unmount().map_err(failed)?;
        volume = Volume::mount(&image, &point).map_err(failed)?;
        promises.end_workers();
        counters.cuts += 1;
        // Otherwise the next workload recovers, and the next cut may come while it does.
        is_recovered = random.u8(0..4) != 0 || cut == cuts;
        if is_recovered {
            let found =
                check_volume(&point, driver, &mut promises).map_err(|what| format!("after cut {cut}: {what}"))?;
            counters.add(&found);
        }
    }
    counters.acknowledged = promises.acknowledged;
    volume.unmount().map_err(failed)?;
    Ok(counters)
}

/// Runs the workload, and cuts the power: right after something became durable, between two actions, or within one.
fn run_until(
    volume: &Volume,
    session: &mut Session,
    promises: &mut Promises,
    is_recovered: bool,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    // The first action opens the cache.
    let while_it_opens = !is_recovered && random.bool();
    let least = if while_it_opens { 1 } else { random.usize(1..=MAX_EVENTS) };
    let right_after_durable = !while_it_opens && random.u8(0..3) == 0;
    for events in 1.. {
        let event = session.next_event().map_err(failed)?;
        let makes_durable = promises.makes_durable(&event);
        promises.record(&event)?;
        if events >= least && (makes_durable || !right_after_durable) || events >= 2 * MAX_EVENTS {
            break;
        }
        workload::write_back_sometimes(volume, random).map_err(failed)?;
        session.go_on().map_err(failed)?;
    }
    if while_it_opens || (!right_after_durable && random.bool()) {
        session.go_on().map_err(failed)?;
        // The cut hits the action at any point of it.
        let scale = random.u32(0..18);
        for _ in 0..random.u32(0..1 << scale) {
            std::hint::spin_loop();
        }
    }
    volume.cut(random.u8(0..if while_it_opens { 2 } else { 4 }) == 0).map_err(failed)
}
