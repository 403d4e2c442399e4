//! Stops a process at one of its system calls, by strace.

use std::fs;
use std::path::Path;
use std::process::Child;

use libtest_mimic::Failed;

use crate::child::{ChildProcess, DEADLINE, until};
use crate::machine::{command, text};

/// While it lives, the process that it has stopped can be told to go on by [`ChildProcess::resume`].
pub struct Tracer(Child);

impl Tracer {
    /// Tells the process to go on. Returns when it is stopped after its call of that number, of those for `path`. Writes a file, `trace`.
    pub fn stop(
        child: &mut ChildProcess,
        call: &str,
        number: usize,
        path: Option<&str>,
        trace: &Path,
    ) -> Result<Self, Failed> {
        let pid = child.id();
        let (calls, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGSTOP:when={number}"));
        let mut strace = command("strace");
        strace.args(["-f", "-o", text(trace), "-e", &calls, "-e", &inject]);
        strace.args(path.iter().flat_map(|path| ["-P", *path]));
        let messages = trace.with_extension("messages");
        strace.args(["-p", &pid.to_string()]).stderr(fs::File::create(&messages).unwrap());
        let tracer = Self(strace.spawn().unwrap());
        // From then on, the process makes no call that is not traced. The kernel names its tracer a moment earlier.
        let is_attached = || fs::read_to_string(&messages).unwrap_or_default().contains("attached").then_some(());
        until(DEADLINE, is_attached).ok_or("strace did not attach")?;
        child.tell("go on")?;
        let is_stopped = || fs::read_to_string(trace).unwrap_or_default().contains("stopped by SIGSTOP").then_some(());
        until(DEADLINE, is_stopped).ok_or_else(|| format!("{call} was not called so often"))?;
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
