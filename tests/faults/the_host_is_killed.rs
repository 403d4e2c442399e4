//! The host is killed: no fault of a disk, of memory or by a cancellation is a signal, an abort or output in the host.

mod cancellation;
mod mapped;
mod memory;

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, INTERNAL, NO_SPACE, Settings, logged};
use crate::child::{ChildProcess, listen, say};
use crate::machine::{Need, Volume, fill, run, text, trials};
use crate::operations::{self, check_kept};

pub fn trials_of_kind() -> Vec<Trial> {
    let btrfs = &[Need::Volume("btrfs")];
    let xfs = &[Need::Volume("xfs")];
    [
        trials("the_host_is_killed::btrfs_is_full_after_a_sync", btrfs, btrfs_is_full),
        trials("the_host_is_killed::btrfs_quota_is_used_up_after_a_sync", btrfs, btrfs_quota_is_used_up),
        trials("the_host_is_killed::xfs_is_shut_down", xfs, |driver| is_shut_down("xfs", 300, driver)),
        trials("the_host_is_killed::ext4_is_shut_down", &[Need::Volume("ext4")], |driver| {
            is_shut_down("ext4", 64, driver)
        }),
        trials("the_host_is_killed::reflink_copy_on_a_full_xfs", xfs, |driver| reflink_copy("xfs", 300, driver)),
        trials("the_host_is_killed::reflink_copy_on_a_full_btrfs", btrfs, |driver| reflink_copy("btrfs", 256, driver)),
        cancellation::trials_of_kind(),
        mapped::trials_of_kind(),
        memory::trials_of_kind(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Tasks of child processes.
pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("use a cache", [driver, directory, reads]) => {
            use_a_cache(Driver::of_name(driver), Path::new(directory), *reads == "reads");
        }
        ("open a full disk", [driver, directory]) => open_a_full_disk(Driver::of_name(driver), Path::new(directory)),
        _ => {
            return cancellation::perform(task, arguments)
                || mapped::perform(task, arguments)
                || memory::perform(task, arguments);
        }
    }
    true
}

/// Has a cache open with a handle of each kind while the parent harms the disk, then calls everything, and closes everything.
fn use_a_cache(driver: Driver, directory: &Path, reads: bool) {
    let cache = match operations::open(directory, driver) {
        Ok(cache) => cache,
        Err(failure) => return say(&format!("open: {failure}")),
    };
    // What a handle holds open from now on: a mapped file would be one.
    for (name, operation) in operations::ALL {
        let status = operation(&cache);
        assert!(status == 0 || status == NO_SPACE, "{name}: {status}");
    }
    let mut reader = cache.open_for_read(operations::KEPT).unwrap();
    let mut writer = cache.begin_write("open").ok();
    let data = vec![3; 200_000];
    let mut rest = &data[..];
    let mut tee = cache.tee("open tee", &mut rest).unwrap();
    let _ = tee.read(&mut [0; 1000]);
    say("ready");
    listen().unwrap();

    let mut problems = Vec::new();
    for _ in 0..3 {
        if reads && let Err(failure) = check_kept(&cache) {
            problems.push(format!("a reader fails: {failure}"));
        }
        for (name, operation) in operations::ALL {
            if operation(&cache) == INTERNAL {
                problems.push(format!("{name}: INTERNAL"));
            }
        }
        if let Some(writer) = &mut writer {
            let _ = writer.write_chunk(&data[..70_000]);
        }
    }
    match reader.read_all() {
        Ok(bytes) if bytes != operations::kept_bytes() => problems.push("an open reader gets wrong bytes".to_owned()),
        Err(failure) if reads => problems.push(format!("an open reader fails: {failure}")),
        _ => {}
    }
    // A tee delivers whatever the disk does.
    match tee.read_all() {
        Ok(rest) if rest.len() != data.len() - 1000 => problems.push(format!("the tee delivered {}", rest.len())),
        Err(failure) => problems.push(format!("the tee fails: {failure}")),
        Ok(_) => {}
    }
    drop((reader, tee));
    let _ = writer.map(crate::c::Writer::commit);
    // A second handle: it may be refused.
    drop(Cache::open(directory, Settings::new(driver)));
    drop(cache);
    if problems.is_empty() {
        say("all returned");
    } else {
        say(&format!("{}; logged: {}", problems.join("; "), logged()));
    }
}

/// Starts a user of the cache, harms the disk, and sees that the user lives and ends well.
fn survives(driver: Driver, directory: &Path, reads: bool, harm: impl FnOnce()) -> Result<(), Failed> {
    let reads = if reads { "reads" } else { "no reads" };
    let mut child = ChildProcess::start("use a cache", &[driver.name(), text(directory), reads]);
    child.expect("ready")?;
    harm();
    child.tell("go on")?;
    child.expect("all returned")?;
    child.finish()
}

fn btrfs_is_full(driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new("btrfs", 128, &[])?;
    survives(driver, &volume.join("cache"), true, || {
        volume.sync();
        fill(&volume.join("others"));
        volume.sync();
    })
}

fn btrfs_quota_is_used_up(driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new("btrfs", 256, &[])?;
    let point = text(volume.path());
    let home = volume.join("home");
    run("btrfs", &["-q", "quota", "enable", point])?;
    run("btrfs", &["-q", "subvolume", "create", text(&home)])?;
    run("btrfs", &["-q", "qgroup", "limit", "24M", text(&home)])?;
    survives(driver, &home.join("cache"), true, || {
        volume.sync();
        fill(&home.join("others"));
        volume.sync();
        let refused = std::fs::write(home.join("one more"), vec![1; 1 << 20]);
        assert!(refused.is_err(), "the quota is used up");
    })
}

fn is_shut_down(kind: &str, megabytes: u64, driver: Driver) -> Result<(), Failed> {
    for how in 0..3 {
        let volume = Volume::new(kind, megabytes, &[])?;
        survives(driver, &volume.join("cache"), false, || volume.shut_down(how))
            .map_err(|failed| format!("shut down with {how}: {}", failed.message().unwrap_or_default()))?;
    }
    Ok(())
}

/// After the copy, a write to any byte of the cache's files needs a new block, also one that keeps the length.
fn reflink_copy(kind: &str, megabytes: u64, driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new(kind, megabytes, &[])?;
    let (original, copy) = (volume.join("cache"), volume.join("copy"));
    survives(driver, &original, true, || {
        run("cp", &["-a", "--reflink=always", text(&original), text(&copy)]).unwrap();
        volume.sync();
        fill(&volume.join("others"));
        volume.sync();
    })?;
    fill(&volume.join("more"));
    let mut child = ChildProcess::start("open a full disk", &[driver.name(), text(&copy)]);
    child.expect("all returned")?;
    child.finish()
}

/// On a full disk, an open may be refused. If it is not, readers read.
fn open_a_full_disk(driver: Driver, directory: &Path) {
    let problem = match Cache::open(directory, Settings::new(driver)) {
        Err(failure) if failure.status == NO_SPACE => None,
        Err(failure) => Some(format!("open: {failure}")),
        Ok(cache) => {
            let internal = operations::ALL.iter().find(|(_, operation)| operation(&cache) == INTERNAL);
            let internal = internal.map(|(name, _)| format!("{name}: INTERNAL"));
            internal.or_else(|| check_kept(&cache).err().map(|why| format!("a reader: {why}")))
        }
    };
    say(&problem.unwrap_or_else(|| "all returned".to_owned()));
}
