//! File systems that free the blocks of removed files late: an eviction is not in vain, and no more is evicted than is needed.

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, NO_SPACE, Settings, status_of};
use crate::machine::{Need, Volume, trials};

const IMAGE: u64 = 5 << 20;
const ROOM: u64 = 6 * IMAGE;

pub fn trials_of_kind() -> Vec<Trial> {
    let xfs = trials("freed_late::xfs_in_background", &[Need::Volume("xfs")], |driver| make_room("xfs", 320, driver));
    let btrfs =
        trials("freed_late::btrfs_at_a_commit", &[Need::Volume("btrfs")], |driver| make_room("btrfs", 150, driver));
    [xfs, btrfs].into_iter().flatten().collect()
}

fn make_room(kind: &str, megabytes: u64, driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new(kind, megabytes, &[])?;
    let cache = Cache::open(&volume.join("cache"), Settings::new(driver)).unwrap();
    let image = vec![7; usize::try_from(IMAGE).unwrap()];
    let written =
        (0..1000).map(|number| status_of(&cache.write(&number.to_string(), &image))).find(|status| *status != 0);
    assert_eq!(written, Some(NO_SPACE));
    cache.clean(-1).unwrap();
    let (evicted, _) = cache.make_room(ROOM).map_err(|failure| failure.to_string())?;
    if evicted > ROOM / IMAGE { Err(format!("{evicted} images were evicted").into()) } else { Ok(()) }
}
