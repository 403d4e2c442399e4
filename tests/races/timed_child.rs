//! Child processes that cannot hang unnoticed: whoever waits for one gets a failure that says where it stands.

use std::fmt::Write as _;
use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on the slowest machine, shorter than a test run's patience.
pub const TIMEOUT: Duration = Duration::from_mins(3);

/// The first argument of this program when it is a child.
pub const CHILD: &str = "--race-child";

/// A child that runs this program. Killed when it is dropped.
pub struct TimedChild {
    child: Option<Child>,
    id: Pid,
}

impl TimedChild {
    /// Starts it; what it does is in `arguments`.
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

    /// Asks it to end, by closing its standard input.
    pub fn request_end(&mut self) {
        drop(self.child.as_mut().and_then(|child| child.stdin.take()));
    }

    pub fn id(&self) -> Pid {
        self.id
    }

    pub fn signal(&self, signal: Signal) {
        // One that has ended, and was not waited for, takes any signal.
        kill_process(self.id, signal).unwrap();
    }

    /// Whether it ended by itself, and how.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// Kills it, wherever it is.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<ExitStatus, String> {
        self.request_end();
        let mut child = self.child.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn(move || {
            // The receiver is gone when it took too long.
            let _ = sender.send(child.wait());
        });
        let ended = receiver.recv_timeout(TIMEOUT).map_err(|_| format!("it hangs:\n{}", self.thread_states()));
        if ended.is_err() {
            self.signal(Signal::KILL);
        }
        waiter.join().unwrap();
        ended?.map_err(|error| error.to_string())
    }

    /// What each of its threads waits for, as far as the kernel tells.
    pub fn thread_states(&self) -> String {
        let tasks = format!("/proc/{}/task", self.id.as_raw_nonzero());
        let mut text = String::new();
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            for file in ["wchan", "syscall", "stack"] {
                let said = std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                writeln!(text, "{} {file}: {}", task.file_name().display(), said.trim()).unwrap();
            }
        }
        text
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended needs no kill.
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
