//! Tasks that another process must perform: a close in this one would drop SQLite's locks.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::index_files;

const TASK: &str = "IMAGE_CACHE_CORRUPTION_TASK";

/// A process that runs this program: it performs its task, prints "done", and ends when this is dropped.
pub struct ChildProcess {
    child: Child,
    input: Option<ChildStdin>,
}

impl ChildProcess {
    /// Starts a task, and returns when it is done.
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

/// Performs the task of a child process, if this process is one.
pub fn run_as_child() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _kept = match (task.as_str(), &arguments[..]) {
        // Holds a database lock.
        ("lock", [database, begin]) => {
            let connection = rusqlite::Connection::open(database).unwrap();
            connection.execute_batch(begin).unwrap();
            Some(connection)
        }
        // Locks the database again and again, as a busy Glance.
        ("lock repeatedly", [database]) => {
            let connection = rusqlite::Connection::open(database).unwrap();
            std::thread::spawn(move || {
                loop {
                    // It fails while the cache has it locked.
                    let _ =
                        connection.execute_batch("BEGIN EXCLUSIVE; UPDATE cached_images SET hits = hits + 1; COMMIT");
                    // So that the cache finds it locked in some of its transactions only.
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
            });
            None
        }
        ("execute", [database, statements]) => {
            rusqlite::Connection::open(database).unwrap().execute_batch(statements).unwrap();
            None
        }
        // Writes into a file on which the parent holds SQLite's locks: the parent's own close would drop them.
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
        ("closed", [directory]) => {
            let output = index_files::use_without_standard_descriptors(directory);
            fs::File::from(output).write_all(b"done\n").unwrap();
            return true;
        }
        ("forks", [directory]) => {
            index_files::fork_beside_threads(directory);
            None
        }
        other => panic!("{other:?} is no task"),
    };
    println!("done");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
    true
}
