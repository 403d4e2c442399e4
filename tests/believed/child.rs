//! Tasks of other processes: this program, run again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use libtest_mimic::Failed;

use crate::fixture::run;

const TASK: &str = "IMAGE_CACHE_BELIEVED_TASK";

/// The function of a task. What it returns is kept until the parent ends the process.
pub type Task = fn(&[String]) -> Box<dyn std::any::Any>;

/// A process with a task.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn command(task: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env(TASK, task);
    command
}

fn slowed(calls: &str, delay: &str, options: &[&str], task: &str, arguments: &[&str]) -> Command {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{delay}"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject]).args(options);
    strace.arg(std::env::current_exe().unwrap()).args(arguments).env(TASK, task);
    strace
}

impl Process {
    /// Starts a task, and returns when it is done. The process lives until this is dropped.
    pub fn start(task: &str, arguments: &[&str]) -> Self {
        let mut process = Self::begin(command(task, arguments));
        assert_eq!(process.line(), "done", "{task}");
        process
    }

    /// Starts a task, and returns at once.
    pub fn spawn(task: &str, arguments: &[&str]) -> Self {
        Self::begin(command(task, arguments))
    }

    /// Starts a task, each of whose syncs of that file takes so many seconds longer.
    pub fn spawn_with_slow_syncs(file: &Path, seconds: &str, task: &str, arguments: &[&str]) -> Self {
        let delay = format!("delay_enter={seconds}s");
        Self::begin(slowed("fsync,fdatasync,syncfs", &delay, &["-P", file.to_str().unwrap()], task, arguments))
    }

    /// Starts a task that gets the answer of each `stat` 0.3 ms late.
    pub fn spawn_with_slow_looks(task: &str, arguments: &[&str]) -> Self {
        Self::begin(slowed("stat,lstat,fstat,newfstatat,statx", "delay_exit=300us", &[], task, arguments))
    }

    fn begin(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// The next line that the task prints; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends the task a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Runs a task to its end. Returns what it printed before "done".
pub fn output(task: &str, arguments: &[&str]) -> Result<String, Failed> {
    let printed = run(&mut command(task, arguments))?;
    printed.strip_suffix("done\n").map(str::to_owned).ok_or_else(|| format!("{task} printed {printed:?}").into())
}

/// How often a task makes each system call that is traced, between [`mark`]s of "begin" and "end".
pub fn traced(task: &str, arguments: &[&str]) -> Result<BTreeMap<String, u64>, Failed> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("calls");
    let program = std::env::current_exe()?;
    let calls = "trace=getdents64,statx,newfstatat,fstat,stat,lstat";
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "--seccomp-bpf", "-q", "-q", "-s", "64", "-e", calls, "-o"])
        .arg(&log)
        .arg(program)
        .args(arguments);
    let printed = run(strace.env(TASK, task))?;
    if !printed.ends_with("done\n") {
        return Err(format!("{task} printed {printed:?}").into());
    }
    let mut counts = BTreeMap::new();
    let mut counting = false;
    for line in fs::read_to_string(&log)?.lines() {
        if line.contains(MARK) {
            counting = line.contains("-begin\"");
        } else if counting && !line.contains("resumed>") {
            let call = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
            let name = call.split('(').next().unwrap_or_default();
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

/// A name that no file has.
const MARK: &str = "/image-cache-trace-mark";

/// Marks a place in the trace of system calls.
pub fn mark(place: &str) {
    let _ = fs::metadata(format!("{MARK}-{place}"));
}

/// The sum of the calls that look at a file.
pub fn looks(counts: &BTreeMap<String, u64>) -> u64 {
    counts.iter().filter(|(name, _)| *name != "getdents64").map(|(_, count)| count).sum()
}

/// Performs the task of a child process, if this process is one.
pub fn run_as_child(tasks: &[(&str, Task)]) -> bool {
    let Ok(name) = std::env::var(TASK) else { return false };
    let (_, task) = tasks.iter().find(|(task, _)| *task == name).unwrap_or_else(|| panic!("{name} is no task"));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let _kept = task(&arguments);
    println!("done");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
    true
}

/// Prints a line now.
pub fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The group of a shared cache.
pub const GROUP: u32 = 4242;
pub const NOBODY: u32 = 65534;

/// Gives this thread the permissions of a user who is in [`GROUP`] only.
pub fn become_member() {
    use rustix::process::{Gid, Uid};
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(GROUP));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(group, group, group).unwrap();
    rustix::thread::set_thread_res_uid(user, user, user).unwrap();
}

/// Gives a closed cache to [`GROUP`]. Its members may write everything in it, but root owns it.
pub fn share(directory: &Path) -> Result<(), Failed> {
    let name = CString::new(directory.as_os_str().as_encoded_bytes()).unwrap();
    let name = name.to_str().unwrap();
    run(Command::new("chgrp").args(["-R", &GROUP.to_string(), name]))?;
    run(Command::new("chmod").args(["-R", "g+rwX", name]))?;
    // Others reach it.
    run(Command::new("chmod").args(["a+x"]).arg(directory.parent().unwrap())).map(drop)
}
