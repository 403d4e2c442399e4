//! What makes an index look old again and again: each question, and each commit, would then read the whole directory.
//!
//! System calls are counted, not time. A question costs about what it costs undisturbed: fewer than one scan of the directory for
//! ten questions, which is far below one for each.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::c::{NONE, SQLITE, Settings};
use crate::child::{self, Task, become_member, looks, share, traced};
use crate::disk::{FileSystem, disk, need, text};
use crate::fixture::{
    DONE, Scratch, Test, attribute, compare, missing_root, missing_tool, set_attribute, set_times, trials as of,
};

const IMAGES: u64 = 300;
const QUESTIONS: u64 = 200;
/// Where each system call is a message to another process.
const QUESTIONS_OF_FUSE: u64 = 40;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 21] = [
        ("sizes_beside_a_hidden_file", |scratch| asked(scratch, "hidden", "size")),
        ("listings_beside_a_hidden_file", |scratch| asked(scratch, "hidden", "list")),
        ("hits_beside_a_hidden_file", |scratch| asked(scratch, "hidden", "hits")),
        ("commits_and_sizes_beside_a_hidden_file", |scratch| asked(scratch, "hidden", "commit")),
        ("sizes_beside_a_subdirectory", |scratch| asked(scratch, "subdirectory", "size")),
        ("sizes_beside_changed_attributes", |scratch| asked(scratch, "attribute", "size")),
        ("sizes_beside_changed_times", |scratch| asked(scratch, "times", "size")),
        ("sizes_of_a_user_who_does_not_own_the_directory", |scratch| member(scratch, "size")),
        ("commits_and_sizes_of_a_user_who_does_not_own_the_directory", |scratch| member(scratch, "commit")),
        ("sizes_on_times_of_100_ns", |_| on(FileSystem::Ntfs, "size")),
        ("commits_and_sizes_on_times_of_100_ns", |_| on(FileSystem::Ntfs, "commit")),
        ("sizes_on_times_of_10_ms", |_| on(FileSystem::Exfat, "size")),
        ("commits_and_sizes_on_times_of_10_ms", |_| on(FileSystem::Exfat, "commit")),
        ("sizes_on_times_of_1_s", |_| on(FileSystem::Ext4OfWholeSeconds, "size")),
        ("commits_and_sizes_on_times_of_1_s", |_| on(FileSystem::Ext4OfWholeSeconds, "commit")),
        ("sizes_on_times_of_2_s", |_| on(FileSystem::Vfat, "size")),
        ("commits_and_sizes_on_times_of_2_s", |_| on(FileSystem::Vfat, "commit")),
        ("sizes_on_tmpfs", |_| on(FileSystem::Tmpfs, "size")),
        ("commits_and_sizes_on_tmpfs", |_| on(FileSystem::Tmpfs, "commit")),
        ("commits_and_sizes_on_btrfs", |_| on(FileSystem::Btrfs, "commit")),
        ("commits_and_sizes_on_xfs", |_| on(FileSystem::Xfs, "commit")),
    ];
    let mut trials = of("the_index_is_never_believed", &[SQLITE], &tests);
    let late: [(&str, Test); 1] = [("a_change_of_images_after_comparisons_in_vain", late)];
    trials.extend(of("the_index_is_never_believed", &[SQLITE], &late));
    trials
}

pub const TASKS: [(&str, Task); 1] = [("questions", questions)];

/// Asks, and is disturbed before each question.
fn questions(arguments: &[String]) -> Box<dyn Any> {
    let [directory, disturbance, question, user, number_of_questions] = arguments else { panic!("{arguments:?}") };
    let directory = Path::new(directory);
    if user == "member" {
        become_member();
    }
    let cache = Settings::new(SQLITE).durability(NONE).open(directory).unwrap();
    cache.cache_size().unwrap();
    child::mark("begin");
    for number in 0..number_of_questions.parse::<u64>().unwrap() {
        let other = directory.join(".other");
        match disturbance.as_str() {
            "none" => {}
            "hidden" => {
                fs::write(&other, b"").unwrap();
                fs::remove_file(&other).unwrap();
            }
            "subdirectory" => {
                fs::create_dir(&other).unwrap();
                fs::remove_dir(&other).unwrap();
            }
            "attribute" => set_attribute(directory, "user.other", number.to_string().as_bytes()),
            "times" => set_times(directory, -1000 - i64::try_from(number).unwrap()),
            other => panic!("{other}"),
        }
        match question.as_str() {
            "size" => drop(cache.cache_size().unwrap()),
            "list" => drop(cache.list().unwrap()),
            "hits" => drop(cache.hits("image-7").unwrap()),
            "commit" => {
                cache.put(&format!("new-{number}"), b"new").unwrap();
                cache.cache_size().unwrap();
            }
            other => panic!("{other}"),
        }
    }
    child::mark("end");
    Box::new(cache)
}

/// A closed cache with many images.
fn make(directory: &Path) -> Result<(), Failed> {
    drop(Settings::new(SQLITE).open(directory)?);
    for number in 0..IMAGES {
        fs::write(directory.join(format!("image-{number}")), b"image")?;
    }
    let cache = Settings::new(SQLITE).open(directory)?;
    compare(&cache, directory)?;
    Ok(())
}

fn check(directory: &Path, [disturbance, question, user]: [&str; 3], questions: u64) -> Result<Option<String>, Failed> {
    let counts = traced("questions", &[text(directory), disturbance, question, user, &questions.to_string()])?;
    let scans = questions / 10;
    let (read, looked) = (counts.get("getdents64").copied().unwrap_or(0), looks(&counts));
    // A directory of this size is read with two calls. A question looks at some files, undisturbed, and a listing at each image once, for
    // what it takes up on the disk.
    let listed = if question == "list" { questions * IMAGES } else { 0 };
    let allowed = (2 * scans, scans * IMAGES + 30 * questions + listed);
    let cache = Settings::new(SQLITE).open(directory)?;
    cache.clean()?;
    compare(&cache, directory)?;
    if read > allowed.0 || looked > allowed.1 {
        return Err(format!(
            "{questions} questions made {read} calls of getdents64 and {looked} of stat; allowed are {allowed:?}: {counts:?}"
        )
        .into());
    }
    DONE
}

fn asked(scratch: &Scratch, disturbance: &str, question: &str) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    make(&scratch.path())?;
    if disturbance == "attribute" {
        set_attribute(&scratch.path(), "user.other", b"");
        assert!(attribute(&scratch.path(), "user.other").is_some());
    }
    check(&scratch.path(), [disturbance, question, "owner"], QUESTIONS)
}

fn member(scratch: &Scratch, question: &str) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    need!(missing_root());
    make(&scratch.path())?;
    share(&scratch.path())?;
    check(&scratch.path(), ["none", question, "member"], QUESTIONS)
}

fn on(file_system: FileSystem, question: &str) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    let disk = disk!(file_system);
    make(&disk.cache())?;
    let is_fuse = matches!(file_system, FileSystem::Ntfs | FileSystem::Exfat);
    check(&disk.cache(), ["none", question, "owner"], if is_fuse { QUESTIONS_OF_FUSE } else { QUESTIONS })
}

/// A handle that has compared in vain sees a change of images late in its sizes, lists and hits, and at once in everything else.
fn late(scratch: &Scratch) -> Result<Option<String>, Failed> {
    /// Ten times the duration of a comparison, with room.
    const LATE: Duration = Duration::from_secs(5);
    make(&scratch.path())?;
    let cache = scratch.settings().max_size(5 * IMAGES).open(&scratch.path())?;
    let compare_in_vain = || -> Result<(), Failed> {
        for _ in 0..6 {
            fs::write(scratch.file(".other"), b"")?;
            fs::remove_file(scratch.file(".other"))?;
            cache.cache_size()?;
        }
        Ok(())
    };
    let seen_after = |change: &dyn Fn() -> std::io::Result<()>, images: u64| -> Result<(), Failed> {
        compare_in_vain()?;
        change()?;
        let start = Instant::now();
        while cache.cache_size()? != 5 * images || cache.ids()?.len() as u64 != images {
            assert!(start.elapsed() < LATE, "the size still is {}", cache.cache_size()?);
        }
        Ok(())
    };
    seen_after(&|| fs::write(scratch.file("new"), b"image"), IMAGES + 1)?;
    seen_after(&|| fs::remove_file(scratch.file("new")), IMAGES)?;
    // What does not wait for it.
    compare_in_vain()?;
    fs::write(scratch.file("new"), b"image")?;
    assert!(cache.is_cached("new")? && cache.image_size("new")? == 5);
    assert_eq!(cache.prune()?, (1, 5));
    compare_in_vain()?;
    fs::write(scratch.file("newer"), b"image")?;
    cache.clean()?;
    compare(&cache, &scratch.path())?;
    DONE
}
