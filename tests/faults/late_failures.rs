//! Late failures: what cannot work is refused at the start, and what can work is not refused late.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings, UNSUPPORTED, status_of};
use crate::child::{ChildProcess, NOBODY};
use crate::machine::{Mount, Need, Volume, age, run, scratch, text, trials};
use crate::operations;

const SUBDIRECTORIES: [&str; 3] = ["incomplete", "invalid", "queue"];

pub fn trials_of_kind() -> Vec<Trial> {
    let mounts = &[Need::Mounts];
    [
        trials("late_failures::subdirectory_on_another_file_system", mounts, |driver| {
            on_another_mount(driver, |_, point| Mount::new(&["-t", "tmpfs", "none"], point))
        }),
        trials("late_failures::subdirectory_is_a_bind_mount", mounts, |driver| {
            on_another_mount(driver, |other, point| Mount::new(&["--bind", text(other)], point))
        }),
        trials("late_failures::subdirectory_is_a_btrfs_subvolume", &[Need::Volume("btrfs")], subvolume),
        trials("late_failures::dead_writers_private_file", &[Need::Root], |driver| private_file(driver, false)),
        trials("late_failures::dead_writers_old_private_file", &[Need::Root], |driver| private_file(driver, true)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The open must be refused, before anything is written.
fn check_refused(directory: &Path, driver: Driver, name: &str) -> Result<(), Failed> {
    match Cache::open(directory, Settings::new(driver)) {
        Err(failure) if failure.status == UNSUPPORTED && failure.to_string().contains(name) => Ok(()),
        Err(failure) => Err(format!("{name}: {failure}").into()),
        Ok(cache) => {
            let written = status_of(&cache.write("1", b"hello"));
            Err(format!("{name}: the cache was opened, and a write ended with {written}").into())
        }
    }
}

fn on_another_mount(driver: Driver, mount: fn(&Path, &Path) -> Result<Mount, Failed>) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    drop(operations::open(&directory, driver)?);
    for name in SUBDIRECTORIES {
        let mounted = mount(&other, &directory.join(name))?;
        check_refused(&directory, driver, name)?;
        drop(mounted);
    }
    // Without the mounts it is opened.
    operations::check_kept(&Cache::open(&directory, Settings::new(driver))?)?;
    Ok(())
}

fn subvolume(driver: Driver) -> Result<(), Failed> {
    let volume = Volume::new("btrfs", 128, &[])?;
    for name in SUBDIRECTORIES {
        let directory = volume.join(&format!("cache with {name}"));
        drop(operations::open(&directory, driver)?);
        fs::remove_dir(directory.join(name)).unwrap();
        run("btrfs", &["-q", "subvolume", "create", text(&directory.join(name))])?;
        check_refused(&directory, driver, name)?;
    }
    // The cache itself may be a subvolume.
    let directory = volume.join("whole");
    run("btrfs", &["-q", "subvolume", "create", text(&directory)])?;
    operations::check_kept(&operations::open(&directory, driver)?)?;
    Ok(())
}

/// A writer of another user was killed. Its file may not be opened, but its name may be removed.
fn private_file(driver: Driver, is_old: bool) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    drop(operations::open(&directory, driver)?);
    let mut writer = ChildProcess::start("write and wait", &[driver.name(), text(&directory), "1000"]);
    writer.expect("written")?;
    writer.kill();
    let file = directory.join("incomplete/1");
    give_to_nobody(&directory);
    chown(&file, Some(0), Some(0)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o1600)).unwrap();
    if is_old {
        age(&file, 3 * 86400);
    }
    let mut owner = ChildProcess::start_as_nobody("use beside a dead writer", &[driver.name(), text(&directory)]);
    owner.expect("the image was queued, and written at once")?;
    owner.finish()?;
    assert_eq!(fs::read(directory.join("1")).unwrap(), b"hello");
    assert!(!file.exists());
    Ok(())
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_to_nobody(&entry.unwrap().path());
        }
    }
}
