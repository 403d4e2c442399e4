//! A child process with a time limit for its replies, and what it waits for when that passes.

#![allow(dead_code, reason = "each test uses a part")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any step takes on a slow machine.
pub const LONGEST: Duration = Duration::from_secs(2 * 60);

/// The first argument of this program as a child process.
pub const CHILD: &str = "--roles-child";

/// A child process that runs this program. It is killed on drop.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    replies: Receiver<String>,
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.arg(CHILD).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, replies) = channel();
        // It ends with the child's output.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { input: child.stdin.take(), child, replies }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A child that has died does not read it.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the end was not requested");
        let _ = input.write_all(format!("{line}\n").as_bytes());
    }

    /// The next line that it prints. Fails with what it waits for, or when it has died.
    pub fn reply(&self) -> Result<String, String> {
        self.reply_until(Instant::now() + LONGEST)
    }

    pub fn reply_until(&self, deadline: Instant) -> Result<String, String> {
        let failed = |error| format!("process {}: {error}; its threads:\n{}", self.id(), self.thread_states());
        self.replies.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(failed)
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed()).unwrap();
        // A child that has ended, and was not waited for, accepts any signal.
        kill_process(id, signal).unwrap();
    }

    /// The exit status, if it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Closes its input, by which it knows that it has to end.
    pub fn end_input(&mut self) {
        drop(self.input.take());
    }

    /// Closes its input, and waits for its end.
    pub fn finish(mut self) -> Result<(), String> {
        drop(self.input.take());
        // The output ends with the process.
        while self.replies.recv_timeout(LONGEST).is_ok() {}
        match self.has_ended_soon() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("process {}: {status}", self.id())),
            None => Err(format!("process {} does not end; its threads:\n{}", self.id(), self.thread_states())),
        }
    }

    /// Between the end of its output and its exit is a moment.
    fn has_ended_soon(&mut self) -> Option<ExitStatus> {
        (0..2000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            self.has_ended()
        })
    }

    /// What each of its threads waits for, by `/proc`.
    pub fn thread_states(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten();
        tasks.fold(String::new(), |mut text, task| {
            for file in ["wchan", "syscall", "stack"] {
                let contents = std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                writeln!(text, "{} {file}: {}", task.file_name().display(), contents.trim()).unwrap();
            }
            text
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
