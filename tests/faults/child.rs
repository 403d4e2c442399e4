//! Child processes: this program again, with a task. Parent and child exchange lines. Each wait has a deadline.

use std::io::{BufRead as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const TASK: &str = "IMAGE_CACHE_FAULTS_TASK";

/// A call that has not returned by then hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A child that outlives its trial is killed by its own alarm.
const MAX_LIFE: Duration = Duration::from_secs(2 * 60);

/// A user who owns nothing.
pub const NOBODY: u32 = 65534;

/// The task of this process, if it is a child, and the arguments.
pub fn own_task() -> Option<(String, Vec<String>)> {
    let task = std::env::var(TASK).ok()?;
    // SAFETY: the call takes a number.
    unsafe { libc::alarm(u32::try_from(MAX_LIFE.as_secs()).unwrap()) };
    Some((task, std::env::args().skip(1).collect()))
}

/// In a child: writes a line to the parent.
pub fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", line.replace('\n', " | ")).unwrap();
    output.flush().unwrap();
}

/// In a child: waits for a line of the parent; `None` when the parent closed the pipe.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.strip_suffix('\n').map(str::to_owned)
}

/// A child process. Dropping it kills it.
pub struct ChildProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    unread: Vec<u8>,
    task: String,
}

impl ChildProcess {
    pub fn start(task: &str, arguments: &[&str]) -> Self {
        Self::spawn(task, Command::new("/proc/self/exe").args(arguments))
    }

    /// Starts a task as a user who owns nothing.
    pub fn start_as_nobody(task: &str, arguments: &[&str]) -> Self {
        Self::spawn(task, Command::new("/proc/self/exe").args(arguments).uid(NOBODY).gid(NOBODY))
    }

    /// Starts a task of this program, which `command` runs in some way.
    pub fn spawn(task: &str, command: &mut Command) -> Self {
        let command = command.env(TASK, task).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, output, unread: Vec::new(), task: task.to_owned() }
    }

    /// Writes a line to the child.
    pub fn tell(&mut self, line: &str) -> Result<(), Failed> {
        writeln!(self.input.as_mut().unwrap(), "{line}").map_err(|error| self.describe(&error.to_string()))
    }

    /// The child's next line.
    pub fn hear(&mut self) -> Result<String, Failed> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(length) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<_> = self.unread.drain(..=length).collect();
                return Ok(String::from_utf8_lossy(&line[..length]).into_owned());
            }
            let left = end.saturating_duration_since(Instant::now());
            let mut look = libc::pollfd { fd: self.output.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: the call gets one entry, which lives until it returns. A signal only ends it early.
            if unsafe { libc::poll(&raw mut look, 1, i32::try_from(left.as_millis()).unwrap()) } <= 0 {
                if left.is_zero() {
                    return Err(self.describe(&format!("said nothing for {DEADLINE:?}")));
                }
                continue;
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(&self.output, &mut buffer).unwrap() {
                0 => {
                    let status = self.wait()?;
                    return Err(self.describe(&format!("ended early: {status}")));
                }
                length => self.unread.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// The child must say this next.
    pub fn expect(&mut self, line: &str) -> Result<(), Failed> {
        let said = self.hear()?;
        if said == line { Ok(()) } else { Err(self.describe(&said)) }
    }

    /// Closes the pipe to the child, which must then end by itself and succeed.
    pub fn finish(mut self) -> Result<(), Failed> {
        let status = self.end()?;
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("died of signal {signal}"));
        if status.success() { Ok(()) } else { Err(self.describe(&how)) }
    }

    /// Closes the pipe to the child, and waits for its end.
    pub fn end(&mut self) -> Result<ExitStatus, Failed> {
        drop(self.input.take());
        self.wait()
    }

    /// Waits for the child's end.
    pub fn wait(&mut self) -> Result<ExitStatus, Failed> {
        let ended = until(DEADLINE, || self.child.try_wait().unwrap());
        ended.ok_or_else(|| self.describe(&format!("did not end within {DEADLINE:?}")))
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the child, and returns when it is stopped. False if it has ended.
    pub fn stop(&self) -> bool {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        matches!(waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(..))
    }

    pub fn resume(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn describe(&self, what: &str) -> Failed {
        format!("{}: {what}", self.task).into()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats a look until it finds something, or the time is over.
pub fn until<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
