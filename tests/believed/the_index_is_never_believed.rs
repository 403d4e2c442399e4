//! What makes an index look old again and again: each question, and each commit, would then read the whole directory.
//!
//! System calls are counted, not time. A question costs about what it costs undisturbed: fewer than one scan of the directory for
//! ten questions, which is far below one for each.

use std::any::Any;
use std::fs;
use std::path::Path;

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
    of("the_index_is_never_believed", &[SQLITE], &tests)
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
    // A directory of this size is read with two calls. A question looks at some files, undisturbed.
    let allowed = (2 * scans, scans * IMAGES + 30 * questions);
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
