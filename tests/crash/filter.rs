//! The filter that a traced thread installs: which of its system calls stop it. The others run at full speed.

use std::io;

use nix::libc::{self, c_long, sock_filter, sock_fprog};

/// Calls that do no input or output, change no file, and only fail when the process has no memory left.
pub const UNTRACED: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_getcwd,
    libc::SYS_prlimit64,
    libc::SYS_futex,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_fadvise64,
    // The thread's end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Where `struct seccomp_data` has the number of the call.
const NUMBER: u32 = 0;

/// Installs the filter for the calling thread, for good.
pub fn install() -> io::Result<()> {
    let number = |call: &c_long| u32::try_from(*call).expect("a system call has a number");
    let statement = |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER)];
    for (at, call) in UNTRACED.iter().enumerate() {
        // Over the other comparisons, and over the statement that stops.
        let allow = u8::try_from(UNTRACED.len() - at).expect("a short list");
        let code = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap();
        program.push(sock_filter { code, jt: allow, jf: 0, k: number(call) });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: the calls read their arguments, which outlive them, and change nothing but this thread's privileges.
    let result = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
        } else {
            -1
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
