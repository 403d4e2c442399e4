//! Starts child processes: a process of its own forks for each of them. It has one thread and has not used the library
//! yet, so its children are like new programs, and start in a tenth of the time.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdout, fork};

use crate::workspace::Workspace;

/// The first argument of the process that forks.
const ARGUMENT: &str = "--launch";
/// More bytes than the arguments of a child process have.
const LONGEST: usize = 4096;

thread_local! {
    /// A thread's child processes have one parent. They are traced by this thread.
    static LAUNCHER: RefCell<Option<Launcher>> = const { RefCell::new(None) };
}

/// In a child process: the pipe to the tracer.
static TRACER: OnceLock<OwnedFd> = OnceLock::new();

struct Launcher {
    process: Child,
    /// Has the output of the child process.
    workspace: Workspace,
}

/// Starts a child process that gets the arguments, and calls `prepare` with it before it begins.
pub fn launch(arguments: &[OsString], prepare: impl FnOnce(Pid) -> io::Result<()>) -> io::Result<Pid> {
    LAUNCHER.with_borrow_mut(|launcher| {
        let launcher = match launcher {
            Some(launcher) => launcher,
            None => launcher.insert(Launcher::start()?),
        };
        launcher.launch(arguments, prepare)
    })
}

/// What the last child process printed, to standard output and standard error.
pub fn output() -> io::Result<(String, String)> {
    LAUNCHER.with_borrow(|launcher| {
        let workspace = &launcher.as_ref().expect("a process was launched").workspace;
        let text = |name| fs::read(workspace.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((text("stdout")?, text("stderr")?))
    })
}

/// Tells the child process something: it waits for that in [`wait_to_be_told`], once.
pub fn tell() -> io::Result<()> {
    LAUNCHER.with_borrow_mut(|launcher| {
        let launcher = launcher.as_mut().expect("a process was launched");
        launcher.process.stdin.as_mut().expect("a pipe").write_all(b"!")
    })
}

/// Whether the child process said something ([`say`]) within the time.
pub fn hear(within: Duration) -> io::Result<bool> {
    LAUNCHER.with_borrow_mut(|launcher| {
        let launcher = launcher.as_mut().expect("a process was launched");
        let pipe = launcher.process.stdout.as_mut().expect("a pipe");
        let mut waiting = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = libc::c_int::try_from(within.as_millis()).expect("a short time");
        // SAFETY: there is one structure, which the call may change.
        if unsafe { libc::poll(&raw mut waiting, 1, milliseconds) } != 1 {
            return Ok(false);
        }
        pipe.read_exact(&mut [0]).map(|()| true)
    })
}

/// After a child process that did not read or say what it should: the next one has another launcher.
pub fn restart() {
    LAUNCHER.take();
}

/// In the child process: waits for [`tell`].
pub fn wait_to_be_told() {
    assert_eq!(nix::unistd::read(io::stdin(), &mut [0]), Ok(1));
}

/// In the child process: tells the tracer that something is done.
pub fn say() {
    let tracer = TRACER.get().expect("a pipe");
    assert_eq!(nix::unistd::write(tracer, b"!"), Ok(1));
}

impl Launcher {
    fn start() -> io::Result<Self> {
        let workspace = Workspace::new()?;
        let process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(workspace.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { process, workspace })
    }

    fn launch(&mut self, arguments: &[OsString], prepare: impl FnOnce(Pid) -> io::Result<()>) -> io::Result<Pid> {
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let arguments = arguments.join(&0);
        assert!(arguments.len() < LONGEST, "one write and one read transfer them");
        let commands = self.process.stdin.as_mut().expect("a pipe");
        commands.write_all(&arguments)?;
        let mut process = [0; 4];
        self.process.stdout.as_mut().expect("a pipe").read_exact(&mut process)?;
        let process = Pid::from_raw(i32::from_ne_bytes(process));
        let prepared = prepare(process);
        // The child reads this; its parent waits for its end.
        commands.write_all(b"!")?;
        prepared.map(|()| process)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Forks whenever it is told to, if the arguments ask for it. Returns the arguments of each child, in that child.
pub fn run_as_launcher() -> Option<Result<Vec<OsString>, ExitCode>> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let outputs = arguments.next()?;
    let mut buffer = [0; LONGEST];
    loop {
        let length = nix::unistd::read(io::stdin(), &mut buffer).expect("a pipe");
        if length == 0 {
            return Some(Err(ExitCode::SUCCESS));
        }
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("a process") {
            ForkResult::Child => {
                let go = nix::unistd::read(io::stdin(), &mut [0]).expect("a pipe");
                if go == 0 {
                    return Some(Err(ExitCode::FAILURE));
                }
                redirect(Path::new(&outputs)).expect("files for the output");
                let arguments = buffer[..length].split(|byte| *byte == 0);
                return Some(Ok(arguments.map(|argument| OsStr::from_bytes(argument).to_owned()).collect()));
            }
            ForkResult::Parent { child } => {
                nix::unistd::write(io::stdout(), &child.as_raw().to_ne_bytes()).expect("a pipe");
                // Of a traced process, the tracer hears first.
                waitpid(child, None).expect("a child");
            }
        }
    }
}

fn redirect(outputs: &Path) -> io::Result<()> {
    let _ = TRACER.set(nix::unistd::dup(io::stdout())?);
    dup2_stdout(File::create(outputs.join("stdout"))?)?;
    dup2_stderr(File::create(outputs.join("stderr"))?)?;
    Ok(())
}
