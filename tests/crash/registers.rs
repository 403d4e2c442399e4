//! A system call in the processor's registers: the only part of the tracer that depends on the architecture.

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
    /// Whether it only releases a lock.
    pub is_unlock: bool,
}

impl Call {
    pub fn is_close(&self) -> bool {
        self.number == libc::SYS_close
    }

    pub fn is_close_of(&self, descriptor: i32) -> bool {
        self.is_close() && self.descriptor() == descriptor
    }

    /// The first argument of a call on a descriptor.
    pub fn descriptor(&self) -> i32 {
        self.argument(0)
    }

    /// An argument that is an int.
    pub fn argument(&self, number: usize) -> i32 {
        int(self.arguments[number])
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

    /// The call that the process is about to make.
    pub fn call(&self, process: Pid) -> Call {
        let registers = &self.0;
        let number = registers.orig_rax.cast_signed();
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        Call { number, arguments, is_unlock: is_unlock(process, number, &arguments) }
    }

    /// With a call number that the kernel does not have: nothing is executed, and the call returns `result`.
    pub fn without_call(mut self, result: i64) -> Self {
        self.0.orig_rax = u64::MAX;
        self.with_result(result)
    }

    #[allow(clippy::cast_sign_loss, reason = "two's complement")]
    pub fn with_result(mut self, result: i64) -> Self {
        self.0.rax = result as u64;
        self
    }

    /// For `read`, `write` and their like: the third argument is the length.
    pub fn with_half_the_length(mut self) -> Self {
        self.0.rdx /= 2;
        self
    }

    pub fn with_length(mut self, length: u64) -> Self {
        self.0.rdx = length;
        self
    }
}

#[allow(clippy::cast_possible_truncation, reason = "an int is the register's lower half")]
fn int(register: u64) -> i32 {
    register as i32
}

fn is_unlock(process: Pid, number: c_long, arguments: &[u64; 6]) -> bool {
    let operation = int(arguments[1]);
    match number {
        libc::SYS_fcntl if [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK].contains(&operation) => {
            // `struct flock` begins with the lock's type, of 16 bits.
            let start = ptrace::read(process, arguments[2] as ptrace::AddressType).unwrap_or_default();
            start & 0xffff == c_long::from(libc::F_UNLCK)
        }
        _ => false,
    }
}
