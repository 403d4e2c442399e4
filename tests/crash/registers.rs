//! A system call as the processor's registers hold it: the only part of the tracer that depends on the architecture.

use std::io;

use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::calls;

/// A system call that a process is about to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub number: c_long,
    pub arguments: [u64; 6],
}

impl Call {
    pub fn is_close(&self) -> bool {
        self.number == libc::SYS_close
    }

    pub fn is_close_of(&self, descriptor: i32) -> bool {
        self.is_close() && self.descriptor() == descriptor
    }

    /// The first argument, of a call whose first argument is a descriptor.
    #[allow(clippy::cast_possible_truncation, reason = "a descriptor is the register's lower half")]
    pub fn descriptor(&self) -> i32 {
        self.arguments[0] as i32
    }

    pub fn name(&self) -> String {
        calls::name(self.number)
    }
}

/// The registers of a process that is stopped before or after a system call.
#[derive(Clone, Copy)]
pub struct Registers(user_regs_struct);

impl Registers {
    pub fn of(process: Pid) -> io::Result<Self> {
        Ok(Self(ptrace::getregs(process)?))
    }

    pub fn put(&self, process: Pid) -> io::Result<()> {
        Ok(ptrace::setregs(process, self.0)?)
    }

    #[allow(clippy::cast_possible_wrap, reason = "the call's number, or -1")]
    pub fn call(&self) -> Call {
        let registers = &self.0;
        Call {
            number: registers.orig_rax as c_long,
            arguments: [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9],
        }
    }

    /// With a call that the kernel does not have, and that it does not execute.
    pub fn without_call(mut self) -> Self {
        self.0.orig_rax = u64::MAX;
        self
    }

    #[allow(clippy::cast_sign_loss, reason = "two's complement")]
    pub fn with_result(mut self, result: i64) -> Self {
        self.0.rax = result as u64;
        self
    }

    /// Of `read`, `write` and their like: the third argument is the length.
    pub fn with_half_the_length(mut self) -> Self {
        self.0.rdx /= 2;
        self
    }

    pub fn with_length_of(mut self, other: &Self) -> Self {
        self.0.rdx = other.0.rdx;
        self
    }
}
