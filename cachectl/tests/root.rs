//! Root in the directories of other users: nothing that they can replace or choose is changed with root's rights. Ignored without root.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use common::{Cache, Run, program, run};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tempfile::TempDir;

/// A user without a name, and another one.
const OWNER: u32 = 4_000_000;
const OTHER: u32 = 4_000_001;

type Test = (&'static str, fn(&Scratch));
type Outcome = Result<Completion, Failed>;

fn main() {
    let trials: [Test; 7] = [
        ("a_new_directory_in_the_home_of_its_owner", in_the_home),
        ("a_link_in_the_home_of_a_user_gives_no_directory_of_root", through_a_link),
        ("a_directory_that_a_third_user_can_replace_is_not_given_away", beside_a_third_user),
        ("only_a_new_or_empty_directory_of_root_is_given_away", with_files),
        ("root_does_not_work_where_a_user_can_replace_the_directory", replaceable),
        ("root_does_not_follow_links_of_users_to_its_own_cache", link_to_a_cache),
        ("root_follows_its_own_links", own_links),
    ];
    let trial = |(name, test): Test| {
        Trial::ignorable_test(name, move || -> Outcome {
            if !rustix::process::geteuid().is_root() {
                return Ok(Completion::ignored_with("needs root, to make directories of other users"));
            }
            test(&Scratch::new());
            Ok(Completion::Completed)
        })
    };
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().map(trial).collect()).exit();
}

struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Makes a directory of a user.
    fn directory(&self, name: &str, user: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(user), Some(user)).unwrap();
        path
    }
}

fn in_directory(directory: &Path, arguments: &[&str]) -> Run {
    run(program().arg("-C").arg(directory).args(arguments))
}

fn create_for_owner(directory: &Path) -> Run {
    in_directory(directory, &["create", "--owner", &format!("{OWNER}:{OWNER}")])
}

fn user_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

#[track_caller]
fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

fn in_the_home(scratch: &Scratch) {
    fs::set_permissions(scratch.0.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let directory = scratch.directory("home", OWNER).join("images");
    create_for_owner(&directory).expect(0);
    assert_eq!((user_of(&directory), user_of(&directory.join("incomplete"))), (OWNER, OWNER));
    in_directory(&directory, &["status"]).expect(0);
}

fn through_a_link(scratch: &Scratch) {
    let (home, of_root) = (scratch.directory("home", OWNER), scratch.directory("of_root", 0));
    symlink(&of_root, home.join("images")).unwrap();
    chown_link(&home.join("images"));
    let refused = create_for_owner(&home.join("images")).expect(1);
    assert!(refused.stderr.contains("symbolic link"), "{refused:?}");
    create_for_owner(&home.join("images/new")).expect(1);
    create_for_owner(&home.join("images/../new")).expect(1);
    assert_eq!(user_of(&of_root), 0);
    assert!(is_empty(&of_root));
}

fn chown_link(link: &Path) {
    std::os::unix::fs::lchown(link, Some(OWNER), Some(OWNER)).unwrap();
}

fn beside_a_third_user(scratch: &Scratch) {
    let (of_other, of_all) = (scratch.directory("of_other", OTHER), scratch.directory("of_all", 0));
    fs::set_permissions(&of_all, fs::Permissions::from_mode(0o777)).unwrap();
    for parent in [&of_other, &of_all] {
        let refused = create_for_owner(&parent.join("images")).expect(1);
        assert!(refused.stderr.contains(parent.to_str().unwrap()), "{refused:?}");
        assert!(is_empty(parent));
    }
    // In a sticky directory, such as /tmp, only the owner of an entry can rename it.
    fs::set_permissions(&of_all, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(scratch.0.path(), fs::Permissions::from_mode(0o711)).unwrap();
    create_for_owner(&of_all.join("images")).expect(0);
}

fn with_files(scratch: &Scratch) {
    fs::set_permissions(scratch.0.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let (hidden, of_other) = (scratch.directory("hidden", 0), scratch.directory("of_other", OTHER));
    fs::write(hidden.join(".profile"), "").unwrap();
    create_for_owner(&hidden).expect(4);
    create_for_owner(&of_other).expect(4);
    assert_eq!((user_of(&hidden), user_of(&of_other)), (0, OTHER));
    assert!(!hidden.join("incomplete").exists() && is_empty(&of_other));
    // The root of a new file system.
    let mounted = scratch.directory("mounted", 0);
    fs::create_dir(mounted.join("lost+found")).unwrap();
    create_for_owner(&mounted).expect(0);
    assert_eq!((user_of(&mounted), user_of(&mounted.join("incomplete"))), (OWNER, OWNER));
}

fn replaceable(scratch: &Scratch) {
    let home = scratch.directory("home", OWNER);
    let (cache, moved) = (Cache::new("sqlite"), home.join("cache"));
    cache.add("1", b"hello");
    let copied = std::process::Command::new("cp").arg("-a").arg(cache.directory()).arg(&moved).status().unwrap();
    assert!(copied.success() && user_of(&moved) == 0);
    for arguments in [["status"].as_slice(), &["delete", "1"], &["convert", "xattr"], &["limit", "set", "1G"]] {
        let refused = in_directory(&moved, arguments).expect(1);
        assert!(refused.stderr.contains("work as root") && refused.stderr.contains("home"), "{refused:?}");
    }
    assert!(moved.join("1").exists());
    in_directory(&home.join("new"), &["create"]).expect(1);
    assert!(!home.join("new").exists());
    // As its owner, root has no more rights than the owner.
    fs::set_permissions(scratch.0.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let own = std::process::Command::new("chown").arg("-R").arg(OWNER.to_string()).arg(&moved).status().unwrap();
    assert!(own.success());
    in_directory(&moved, &["delete", "1"]).expect(0);
}

fn link_to_a_cache(scratch: &Scratch) {
    let home = scratch.directory("home", OWNER);
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    symlink(cache.directory(), home.join("cache")).unwrap();
    in_directory(&home.join("cache"), &["delete", "1"]).expect(1);
    assert_eq!(cache.ids(), ["1"]);
}

fn own_links(scratch: &Scratch) {
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    let there = scratch.directory("there", 0);
    symlink(cache.directory(), there.join("absolute")).unwrap();
    symlink("there/absolute", scratch.0.path().join("relative")).unwrap();
    let link = scratch.0.path().join("relative");
    assert_eq!(in_directory(&link, &["list", "-q"]).expect(0).stdout, "1\n");
    let mut relative = program();
    relative.current_dir(&there).args(["-C", "./../there/absolute", "list", "-q"]);
    assert_eq!(run(&mut relative).expect(0).stdout, "1\n");
    symlink("loop", scratch.0.path().join("loop")).unwrap();
    in_directory(&scratch.0.path().join("loop"), &["status"]).expect(1);
}
