//! What the tests need of the machine: other processes, other users' rights, mounts.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe};

const TASK: &str = "IMAGE_CACHE_CORRUPTION_TASK";

/// Another process of this program. It does its work, says so, and ends when this is dropped.
pub struct ChildProcess {
    child: Child,
    input: Option<ChildStdin>,
}

impl ChildProcess {
    /// Runs `task` with arguments, and returns when it has done its work.
    pub fn start(task: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "{task}");
        let input = child.stdin.take();
        Self { child, input }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Plays the part of another process, if that is what this one was started for.
pub fn run_as_child() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _kept = match (task.as_str(), &arguments[..]) {
        // Holds a database's lock.
        ("lock", [database, begin]) => {
            let connection = rusqlite::Connection::open(database).unwrap();
            connection.execute_batch(begin).unwrap();
            Some(connection)
        }
        ("execute", [database, statements]) => {
            rusqlite::Connection::open(database).unwrap().execute_batch(statements).unwrap();
            None
        }
        // Writes into a file that this process has open with SQLite's locks, which would go if it opened it itself.
        ("write", [path, offset, byte]) => {
            let file = fs::File::options().read(true).write(true).open(path).unwrap();
            let (offset, mut old) = (offset.parse().unwrap(), [0]);
            file.read_exact_at(&mut old, offset).unwrap();
            file.write_all_at(&[old[0] ^ byte.parse::<u8>().unwrap()], offset).unwrap();
            None
        }
        ("copy", [from, to]) => {
            fs::copy(from, to).unwrap();
            None
        }
        other => panic!("{other:?} is no task"),
    };
    println!("done");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
    true
}

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Runs `work` on a thread of its own, whose rights and mounts nobody else has.
pub fn on_own_thread(work: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err("it panicked; see above".into()))
}

/// Gives this thread the rights of a user who owns nothing.
pub fn become_nobody() {
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
}

/// Lets everybody read a folder and what is in it.
pub fn make_readable(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            make_readable(&entry.path());
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Gives this thread a mount namespace of its own, once.
pub fn unshare_mounts() {
    // SAFETY: of what can be unshared, only the table of descriptors can do harm, and that is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Mounts a folder read-only where it is, for this thread.
pub fn mount_read_only(folder: &Path) {
    mount_bind(folder, folder).unwrap();
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(folder, flags, c"").unwrap();
}
