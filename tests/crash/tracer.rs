//! Stops a thread of a child process before each of its system calls, and decides what becomes of the call: it runs,
//! fails, transfers less, or the process is killed.
//!
//! The child process runs the traced part in [`traced`], on a thread of its own. A filter of that thread makes its calls
//! stop; everything else that the process does runs at full speed.

use std::ffi::OsString;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::registers::{Call, Registers};
use crate::{filter, launcher};

/// Descriptors that no process has: closing one tells the tracer something, and has no effect.
const BEGIN: i32 = -4242;
const END: i32 = -4243;

/// The exit code of a process that may not be traced.
const NOT_PERMITTED: i32 = 77;

/// What the traced thread is about to do.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    Call(&'a Call),
    /// The traced part has ended, and the process knows its result.
    Returned,
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Continue,
    /// The process is killed; the call is not executed.
    Kill,
    /// The call returns the error without being executed. A `close` frees the descriptor all the same.
    Fail(Errno),
    /// The call transfers half of the bytes.
    Shorten,
    /// The call returns 0, without being executed.
    Skip,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Killed,
    Exited(i32),
    /// By a signal that the tracer did not send.
    Signal(Signal),
    /// It may not be traced here.
    NotPermitted,
}

/// What one run showed.
#[derive(Debug)]
pub struct Traced {
    pub end: End,
    pub stdout: String,
    pub stderr: String,
}

/// In the traced process: runs the traced part.
pub fn traced<T: Send>(part: impl FnOnce() -> T + Send) -> T {
    traced_beside(part, || ()).0
}

/// The same, while this thread does something else.
pub fn traced_beside<T: Send, U>(part: impl FnOnce() -> T + Send, other: impl FnOnce() -> U) -> (T, U) {
    let on_thread = || {
        if let Err(error) = filter::install() {
            eprintln!("seccomp: {error}");
            std::process::exit(NOT_PERMITTED);
        }
        mark(BEGIN);
        let result = part();
        mark(END);
        result
    };
    let (ended, others) = std::thread::scope(|scope| {
        let thread = scope.spawn(on_thread);
        let others = other();
        (thread.join(), others)
    });
    (ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), others)
}

fn mark(descriptor: i32) {
    assert_eq!(nix::unistd::close(descriptor), Err(Errno::EBADF));
}

/// Runs a child process that calls [`traced`], and calls `decide` for each call of the traced part.
pub fn trace(arguments: &[OsString], decide: impl FnMut(Pid, Event<'_>) -> Decision) -> io::Result<Traced> {
    let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESECCOMP;
    let mut seized = Ok(());
    let process = launcher::launch(arguments, |process| {
        seized = ptrace::seize(process, options | Options::PTRACE_O_TRACESYSGOOD);
        if seized.is_err() { Ok(kill(process, Signal::SIGKILL)?) } else { Ok(()) }
    })?;
    let end = match seized {
        Ok(()) => follow(process, decide)?,
        Err(_) => End::NotPermitted,
    };
    let (stdout, stderr) = if seized.is_ok() { launcher::output()? } else { Default::default() };
    Ok(Traced { end, stdout, stderr })
}

/// What happens when the call that is being executed returns.
#[derive(Clone, Copy)]
enum AtReturn {
    SetResult(i64),
    /// The program expects its registers unchanged, except the result.
    RestoreLength(u64),
}

/// What the tracer knows of the traced thread.
#[derive(Default)]
struct Progress {
    is_traced: bool,
    was_killed: bool,
    /// The call that is being executed, if its return matters.
    executing: Option<AtReturn>,
}

fn follow(process: Pid, mut decide: impl FnMut(Pid, Event<'_>) -> Decision) -> io::Result<End> {
    let mut progress = Progress::default();
    loop {
        // The tracees of this thread: the process, and its traced thread.
        let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))?;
        match status {
            WaitStatus::Exited(ended, code) if ended == process => {
                return Ok(if code == NOT_PERMITTED { End::NotPermitted } else { End::Exited(code) });
            }
            WaitStatus::Signaled(ended, signal, _) if ended == process => {
                let was_killed = progress.was_killed && signal == Signal::SIGKILL;
                return Ok(if was_killed { End::Killed } else { End::Signal(signal) });
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
            WaitStatus::PtraceEvent(thread, _, libc::PTRACE_EVENT_SECCOMP) => {
                resume_call(process, thread, &mut progress, &mut decide)?;
            }
            WaitStatus::PtraceSyscall(thread) => {
                if let Some(at_return) = progress.executing.take() {
                    leave(thread, at_return)?;
                }
                ptrace::cont(thread, None)?;
            }
            // A thread begins.
            WaitStatus::PtraceEvent(thread, ..) => ptrace::cont(thread, None)?,
            WaitStatus::Stopped(thread, signal) => ptrace::cont(thread, signal)?,
            other => return Err(io::Error::other(format!("the traced process: {other:?}"))),
        }
    }
}

/// Lets the call of a stopped thread run, or what is decided.
fn resume_call(
    process: Pid,
    thread: Pid,
    progress: &mut Progress,
    decide: &mut impl FnMut(Pid, Event<'_>) -> Decision,
) -> io::Result<()> {
    let mut registers = Registers::of(thread)?;
    let call = registers.call(thread);
    let decision = if call.is_close_of(END) {
        progress.is_traced = false;
        decide(thread, Event::Returned)
    } else if progress.is_traced {
        decide(thread, Event::Call(&call))
    } else {
        Decision::Continue
    };
    progress.is_traced |= call.is_close_of(BEGIN);
    if decision == Decision::Kill {
        progress.was_killed = true;
        return Ok(kill(process, Signal::SIGKILL)?);
    }
    progress.executing = enter(thread, &mut registers, &call, decision)?;
    match progress.executing {
        Some(_) => Ok(ptrace::syscall(thread, None)?),
        None => Ok(ptrace::cont(thread, None)?),
    }
}

/// Applies the decision before the kernel executes the call.
fn enter(thread: Pid, registers: &mut Registers, call: &Call, decision: Decision) -> io::Result<Option<AtReturn>> {
    match decision {
        Decision::Continue | Decision::Kill => Ok(None),
        Decision::Fail(errno) if call.is_close() => Ok(Some(AtReturn::SetResult(-i64::from(errno as i32)))),
        Decision::Fail(errno) => {
            registers.without_call(-i64::from(errno as i32)).put(thread)?;
            Ok(None)
        }
        Decision::Skip => {
            registers.without_call(0).put(thread)?;
            Ok(None)
        }
        Decision::Shorten => {
            registers.with_half_the_length().put(thread)?;
            Ok(Some(AtReturn::RestoreLength(call.arguments[2])))
        }
    }
}

/// Applies the decision after the kernel executed the call.
fn leave(thread: Pid, at_return: AtReturn) -> io::Result<()> {
    match at_return {
        AtReturn::SetResult(result) => Registers::of(thread)?.with_result(result).put(thread),
        AtReturn::RestoreLength(length) => Registers::of(thread)?.with_length(length).put(thread),
    }
}
