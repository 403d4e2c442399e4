//! A child process that this program exchanges lines with.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

/// This program with --child. It ends with this value at the latest.
pub struct PipedChild {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    work: String,
}

impl PipedChild {
    pub fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--child").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().context("the child's input")?;
        let output = BufReader::new(process.stdout.take().context("the child's output")?);
        Ok(Self { process, input, output, work: format!("{arguments:?}") })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends an empty line, which the child reads with [`wait_for_parent`].
    pub fn proceed(&mut self) -> Result<()> {
        self.input.write_all(b"\n").with_context(|| format!("the child process for {} has ended", self.work))
    }

    /// The child's next line; `None` if it has ended.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        Ok((self.output.read_line(&mut line)? > 0).then_some(line))
    }

    /// The child's next line, in JSON.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line()?.with_context(|| format!("the child process for {} has ended", self.work))?;
        serde_json::from_str(&line).with_context(|| format!("the child process for {} printed '{line}'", self.work))
    }

    /// Waits for its end. Fails if it failed.
    pub fn end(mut self) -> Result<()> {
        let status = self.process.wait()?;
        anyhow::ensure!(status.success(), "the child process for {} failed: {status}", self.work);
        Ok(())
    }
}

impl Drop for PipedChild {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: waits until the parent sends a line. Fails if the parent has ended.
pub fn wait_for_parent() -> Result<()> {
    let read = std::io::stdin().read_line(&mut String::new())?;
    anyhow::ensure!(read > 0, "the parent has ended");
    Ok(())
}
