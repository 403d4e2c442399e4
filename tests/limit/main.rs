//! The limit and the floor under everything at once: 16 threads in 4 processes write, read, delete and are killed or stopped, another
//! program fills the disk, and a sampler adds up what the cache takes up, about 100 times a second.

#[path = "../bounds/blocks.rs"]
mod blocks;
mod controller;
#[path = "../roles/processes.rs"]
mod processes;
mod sampler;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Trial};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if let [processes::CHILD, directory, driver, seed] = &words[..] {
        // A child that is stopped would outlive its parent.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
        let driver = if *driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        worker::run(Path::new(directory), driver, seed.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    let disk = Disk::mounted();
    for (name, driver) in [("sqlite", DriverChoice::Sqlite), ("xattr", DriverChoice::Xattr)] {
        trials.push(Trial::test(format!("{name}::the_limit_is_never_exceeded"), move || {
            controller::run(name, driver).map_err(Into::into)
        }));
        let path = disk.as_ref().map(|disk| disk.path().join(name)).unwrap_or_default();
        let trial = Trial::test(format!("{name}::the_cache_takes_nothing_below_the_floor"), move || {
            std::fs::create_dir(&path).unwrap();
            let outcome = controller::run_on_a_full_disk(name, driver, &path);
            // The next run needs the disk.
            std::fs::remove_dir_all(&path).unwrap();
            outcome.map_err(Into::into)
        });
        trials.push(trial.with_ignored_flag(disk.is_err()));
    }
    if let Err(error) = &disk {
        eprintln!("the_cache_takes_nothing_below_the_floor is ignored: a tmpfs cannot be mounted: {error}");
    }
    // One at a time: the other's load would be in the way.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A small file system in memory, which only this process and its children see.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mounted() -> std::io::Result<Self> {
        // SAFETY: only an unshared descriptor table could do harm, and it is not unshared. No other thread runs yet.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let point = tempfile::tempdir()?;
        let size = std::ffi::CString::new(format!("size={}", controller::DISK)).unwrap();
        mount("tmpfs", point.path(), "tmpfs", MountFlags::empty(), size.as_c_str())?;
        Ok(Self(point))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
