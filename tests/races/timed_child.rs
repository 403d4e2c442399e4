//! Child processes with a time limit: a wait for one that hangs fails, and prints what its threads wait for.

use std::fmt::Write as _;
use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any step takes on a slow machine, shorter than the time limit of a test run.
pub const TIMEOUT: Duration = Duration::from_secs(3 * 60);

/// The first argument of this program as a child process.
pub const CHILD: &str = "--race-child";

/// A child process that runs this program. It is killed on drop.
pub struct TimedChild {
    child: Option<Child>,
    id: Pid,
}

impl TimedChild {
    /// Starts it with these arguments.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { child: Some(child), id })
    }

    pub fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        let child = self.child.as_mut()?;
        Some((child.stdin.take()?, child.stdout.take()?))
    }

    /// Requests its end: closes its standard input.
    pub fn request_end(&mut self) {
        drop(self.child.as_mut().and_then(|child| child.stdin.take()));
    }

    pub fn id(&self) -> Pid {
        self.id
    }

    pub fn signal(&self, signal: Signal) {
        // A child that has ended, and was not waited for, accepts any signal.
        kill_process(self.id, signal).unwrap();
    }

    /// The exit status, if it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<ExitStatus, String> {
        self.request_end();
        let mut child = self.child.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn(move || {
            // After the time limit the receiver is gone.
            let _ = sender.send(child.wait());
        });
        let ended = receiver.recv_timeout(TIMEOUT).map_err(|_| format!("it hangs:\n{}", self.thread_states()));
        if ended.is_err() {
            self.signal(Signal::KILL);
        }
        waiter.join().unwrap();
        ended?.map_err(|error| error.to_string())
    }

    /// What each of its threads waits for, by `/proc`.
    pub fn thread_states(&self) -> String {
        let tasks = format!("/proc/{}/task", self.id.as_raw_nonzero());
        let mut text = String::new();
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            for file in ["wchan", "syscall", "stack"] {
                let contents = std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                writeln!(text, "{} {file}: {}", task.file_name().display(), contents.trim()).unwrap();
            }
        }
        text
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A child that has ended needs no kill.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

impl Drop for TimedChild {
    fn drop(&mut self) {
        self.end();
    }
}
