//! File systems on loop devices: one with times of whole seconds, one with a broken inode, one that the kernel makes
//! read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image_cache::{Algorithm, DriverChoice, Error, ImageCache, Options};
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

use crate::checks::recording_log;
use crate::common::{DRIVERS, cache_image, ids, read_image};
use crate::workspace::{on_own_thread, unshare_mounts};

type Test = fn(&Disk, DriverChoice) -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, &str, Test); 3] = [
        ("a_rebuild_keeps_digests_and_hits_where_times_are_whole_seconds", "128", whole_seconds),
        ("an_image_with_a_broken_inode_blocks_no_other", "256", broken_inode),
        ("a_disk_that_becomes_read_only_under_a_live_handle_is_read", "256", becomes_read_only),
    ];
    let mut trials = Vec::new();
    for (name, inode_size, test) in tests {
        for driver in DRIVERS {
            trials.push(Trial::ignorable_test(format!("disk::{driver:?}::{name}"), move || {
                let mut outcome = Ok(Completion::ignored_with("no loop devices, or no mkfs.ext4 and debugfs, here"));
                on_own_thread(|| {
                    if let Some(disk) = Disk::make(inode_size) {
                        outcome = test(&disk, driver).map(|()| Completion::Completed);
                    }
                    Ok(())
                })?;
                outcome
            }));
        }
    }
    trials
}

/// A small ext4 file system, mounted for this thread only.
struct Disk {
    root: TempDir,
}

impl Disk {
    /// `None` where this machine cannot mount one.
    fn make(inode_size: &str) -> Option<Self> {
        if !crate::workspace::is_root() {
            return None;
        }
        unshare_mounts();
        let disk = Self { root: tempfile::tempdir().unwrap() };
        fs::write(disk.image(), b"").unwrap();
        fs::File::options().write(true).open(disk.image()).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(disk.mounted()).unwrap();
        let image = disk.image();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal", "-I", inode_size]).arg(image));
        (made && disk.mount()).then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.root.path().join("mounted")
    }

    fn cache(&self) -> PathBuf {
        self.mounted().join("cache")
    }

    fn mount(&self) -> bool {
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(self.image()).arg(self.mounted()))
    }

    /// A child of another test holds copies of our descriptors until its `exec`: until then the disk is busy.
    fn unmount(&self) {
        let mut attempts = std::iter::repeat_with(|| run(Command::new("umount").arg(self.mounted()))).take(200);
        assert!(attempts.any(|unmounted| unmounted));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.mounted()));
    }
}

fn run(command: &mut Command) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let silent = command.env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn whole_seconds(disk: &Disk, driver: DriverChoice) -> Result<(), Failed> {
    let options = Options::new().driver(driver);
    {
        let cache = ImageCache::open(disk.cache(), options.clone())?;
        let mut writer = cache.begin_write("1")?;
        writer.expect_digest(Algorithm::Md5, "5d41402abc4b2a76b9719d911017c592")?;
        writer.write_chunk(b"hello")?;
        writer.commit()?;
        read_image(&cache, "1");
        let modified = fs::metadata(disk.cache().join("1")).unwrap().modified().unwrap();
        assert_eq!(
            modified.duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos(),
            0,
            "the disk is of that kind"
        );
        // A foreign file makes the library rebuild the index.
        fs::write(disk.cache().join("2"), b"x").unwrap();
        let listed: Vec<_> = cache.list_cached()?.collect();
        assert_eq!((listed.len(), listed[0].hits), (2, 1));
        assert!(listed[0].digest.is_some());
    }
    disk.unmount();
    assert!(disk.mount());
    fs::write(disk.cache().join("3"), b"x").unwrap();
    let listed: Vec<_> = ImageCache::open(disk.cache(), options)?.list_cached()?.collect();
    assert_eq!((listed.len(), listed[0].hits), (3, 1));
    assert!(listed[0].digest.is_some());
    Ok(())
}

/// The error of a prune. A child that another trial forks has the images open until it calls exec: a prune leaves them, and succeeds.
fn failed_prune(cache: &ImageCache) -> Option<Error> {
    std::iter::repeat_with(|| cache.prune()).take(200).find_map(Result::err)
}

/// The kernel finds the inode of one image broken.
fn broken_inode(disk: &Disk, driver: DriverChoice) -> Result<(), Failed> {
    let (log, messages) = recording_log();
    let options = Options::new().driver(driver).log(log);
    {
        let cache = ImageCache::open(disk.cache(), options.clone())?;
        for id in ["1", "broken", "3"] {
            cache_image(&cache, id, b"12345");
        }
        for id in ["broken", "q1", "q2"] {
            fs::write(disk.cache().join("queue").join(id), b"").unwrap();
            fs::write(disk.cache().join("invalid").join(id), b"").unwrap();
        }
    }
    disk.unmount();
    for file in ["broken", "queue/broken", "invalid/broken"] {
        let request = format!("clri /cache/{file}");
        assert!(run(Command::new("debugfs").args(["-w", "-R", &request]).arg(disk.image())));
    }
    // The kernel must go on after the error.
    assert!(run(Command::new("mount").args(["-o", "loop,errors=continue"]).arg(disk.image()).arg(disk.mounted())));
    assert!(fs::symlink_metadata(disk.cache().join("broken")).is_err(), "the inode is broken");
    fs::write(disk.cache().join("2"), b"12345").unwrap();

    let cache = ImageCache::open(disk.cache(), options.clone().max_size(5))?;
    let without_broken = |mut ids: Vec<String>| {
        ids.retain(|id| id != "broken");
        ids
    };
    assert_eq!(without_broken(ids(&cache)), ["1", "2", "3"]);
    assert!(messages.lock().unwrap().iter().any(|message| message.contains("broken")), "{messages:?}");
    assert_eq!(without_broken(ids(&cache)), ["1", "2", "3"]);
    assert_eq!(read_image(&cache, "2"), b"12345");
    assert!(matches!(cache.open_for_read("broken"), Err(Error::System { .. })));
    assert!(matches!(cache.is_cached("broken"), Err(Error::System { .. })));
    assert!(matches!(cache.begin_write("broken"), Err(Error::System { .. })));
    cache_image(&cache, "4", b"12345");
    assert_eq!(cache.list_queued()?.len(), 2);
    assert!(matches!(cache.delete_all_queued_images(), Err(Error::System { .. })));
    assert_eq!(cache.list_queued()?.len(), 0);
    assert!(matches!(cache.clean(None), Err(Error::System { .. })));
    assert!(!disk.cache().join("invalid/q1").exists());
    let pruned = failed_prune(&cache);
    assert!(matches!(pruned, Some(Error::System { .. })), "{pruned:?}");
    assert!(without_broken(ids(&cache)).len() <= 1);
    let deleted = cache.delete_all_cached_images();
    assert!(matches!(deleted, Err(Error::System { .. })), "{deleted:?}");
    assert!(without_broken(ids(&cache)).is_empty());
    drop(cache);
    ImageCache::open(disk.cache(), options)?;
    Ok(())
}

fn becomes_read_only(disk: &Disk, driver: DriverChoice) -> Result<(), Failed> {
    let (log, messages) = recording_log();
    let cache = ImageCache::open(disk.cache(), Options::new().driver(driver).max_size(3).log(log))?;
    cache_image(&cache, "1", b"hello");
    read_image(&cache, "1");
    assert!(make_read_only(disk), "the disk can be made read-only");
    messages.lock().unwrap().clear();
    for _ in 0..20 {
        assert_eq!(read_image(&cache, "1"), b"hello");
    }
    let message_count = messages.lock().unwrap().clone();
    assert!(message_count.len() <= 3, "{message_count:?}");
    assert_eq!((cache.cache_size()?, ids(&cache).len()), (5, 1));
    assert!(cache.hit_count("1")? >= 1);
    assert!(matches!(cache.begin_write("2"), Err(Error::System { .. })));
    let pruned = failed_prune(&cache);
    assert!(matches!(pruned, Some(Error::System { .. })), "{pruned:?}");
    drop(cache);
    let cache = ImageCache::open(disk.cache(), Options::new().driver(driver))?;
    assert_eq!(read_image(&cache, "1"), b"hello");
    assert_eq!(ids(&cache).len(), 1);
    Ok(())
}

/// Triggers what ext4 does on an error.
fn make_read_only(disk: &Disk) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let mounted = disk.mounted();
    let device = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        (Path::new(words.next()?) == mounted).then(|| device.trim_start_matches("/dev/").to_owned())
    });
    fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap()), b"tested").is_ok()
}
