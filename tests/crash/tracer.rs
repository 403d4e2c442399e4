//! Stops a process before each of its system calls, and decides what becomes of the call: it runs, fails, transfers
//! less, or the process is killed.
//!
//! The traced process marks the traced part itself ([`begin`], [`end`]); its preparation runs at full speed. It must
//! have one thread.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::registers::{Call, Registers};

/// Descriptors that no process has: closing one tells the tracer something, and has no effect.
const BEGIN: i32 = -4242;
const END: i32 = -4243;

/// The exit code of a process that may not be traced.
const NOT_PERMITTED: i32 = 77;

/// What the traced process is about to do.
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

/// In the traced process: waits for the tracer. The traced part begins.
pub fn begin() {
    if let Err(errno) = ptrace::traceme() {
        eprintln!("ptrace: {errno}");
        std::process::exit(NOT_PERMITTED);
    }
    raise(Signal::SIGSTOP).unwrap();
    mark(BEGIN);
}

/// In the traced process: the traced part ends.
pub fn end() {
    mark(END);
}

fn mark(descriptor: i32) {
    assert_eq!(nix::unistd::close(descriptor), Err(Errno::EBADF));
}

/// Runs a process that calls [`begin`] and [`end`], and calls `decide` for each call in between.
pub fn trace(command: &mut Command, mut decide: impl FnMut(Pid, Event<'_>) -> Decision) -> io::Result<Traced> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let end = follow(process, &mut decide)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout)?;
    child.stderr.take().unwrap().read_to_end(&mut stderr)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Traced { end, stdout: text(stdout), stderr: text(stderr) })
}

/// What happens when the call that is being executed returns.
#[derive(Clone, Copy)]
enum AtReturn {
    Nothing,
    SetResult(i64),
    /// The program expects its registers unchanged, except the result.
    RestoreLength(u64),
}

fn follow(process: Pid, decide: &mut impl FnMut(Pid, Event<'_>) -> Decision) -> io::Result<End> {
    let mut is_traced = false;
    // The call that is being executed: the process stops before it and after it.
    let mut executing: Option<AtReturn> = None;
    let mut was_killed = false;
    loop {
        let mut forwarded = None;
        match waitpid(process, None)? {
            WaitStatus::Exited(_, NOT_PERMITTED) => return Ok(End::NotPermitted),
            WaitStatus::Exited(_, code) => return Ok(End::Exited(code)),
            WaitStatus::Signaled(_, Signal::SIGKILL, _) if was_killed => return Ok(End::Killed),
            WaitStatus::Signaled(_, signal, _) => return Ok(End::Signal(signal)),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                ptrace::setoptions(process, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD)?;
            }
            WaitStatus::Stopped(_, signal) => forwarded = Some(signal),
            WaitStatus::PtraceSyscall(_) => {
                if let Some(at_return) = executing.take() {
                    leave(process, at_return)?;
                } else {
                    let mut registers = Registers::of(process)?;
                    let call = registers.call(process);
                    if call.is_close_of(END) {
                        is_traced = false;
                        if decide(process, Event::Returned) != Decision::Kill {
                            ptrace::detach(process, None)?;
                            continue;
                        }
                        was_killed = true;
                        kill(process, Signal::SIGKILL)?;
                        continue;
                    }
                    let decision = if is_traced { decide(process, Event::Call(&call)) } else { Decision::Continue };
                    is_traced |= call.is_close_of(BEGIN);
                    if decision == Decision::Kill {
                        was_killed = true;
                        kill(process, Signal::SIGKILL)?;
                        continue;
                    }
                    executing = Some(enter(process, &mut registers, &call, decision)?);
                }
            }
            other => return Err(io::Error::other(format!("the traced process: {other:?}"))),
        }
        ptrace::syscall(process, forwarded)?;
    }
}

/// Applies the decision before the kernel executes the call.
fn enter(process: Pid, registers: &mut Registers, call: &Call, decision: Decision) -> io::Result<AtReturn> {
    match decision {
        Decision::Continue | Decision::Kill => Ok(AtReturn::Nothing),
        Decision::Fail(errno) => {
            if !call.is_close() {
                registers.without_call().put(process)?;
            }
            Ok(AtReturn::SetResult(-i64::from(errno as i32)))
        }
        Decision::Skip => {
            registers.without_call().put(process)?;
            Ok(AtReturn::SetResult(0))
        }
        Decision::Shorten => {
            registers.with_half_the_length().put(process)?;
            Ok(AtReturn::RestoreLength(call.arguments[2]))
        }
    }
}

/// Applies the decision after the kernel executed the call.
fn leave(process: Pid, at_return: AtReturn) -> io::Result<()> {
    match at_return {
        AtReturn::Nothing => Ok(()),
        AtReturn::SetResult(result) => Registers::of(process)?.with_result(result).put(process),
        AtReturn::RestoreLength(length) => Registers::of(process)?.with_length(length).put(process),
    }
}
