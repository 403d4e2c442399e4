//! Measurements in child processes: this program with --child. Each child writes one line of JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::piped_child::PipedChild;

/// The result of a listing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    pub images: usize,
    pub seconds: f64,
    /// Bytes from the process's memory before to its peak.
    pub peak_growth: u64,
}

/// The memory of open writers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Writers {
    pub count: usize,
    /// Bytes written by each.
    pub written: usize,
    /// Bytes by which the process's memory grew.
    pub grown: u64,
}

/// The result of processes that competed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Competed {
    pub hits: u64,
    pub errors: u64,
    pub seconds: f64,
    pub p99: f64,
    pub worst: f64,
    /// Each latency in nanoseconds, with its count.
    pub latencies: Vec<(u64, u64)>,
}

/// The image that a crash leaves without an index entry.
pub const LEFT_BY_A_CRASH: &str = "left-by-a-crash";

/// The child writes these to /dev/null. Only calls between them count.
pub const MARKS: [&str; 2] = ["hits begin", "hits end"];

/// Runs this program as a child, and reads its result.
pub fn run<T: DeserializeOwned>(program: &Path, arguments: &[&str]) -> Result<T> {
    let output = Command::new(program).arg("--child").args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the child process for {arguments:?} failed: {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// In the child: prints its result.
pub fn print(measured: &impl Serialize) -> Result<()> {
    // Not println!, which panics if the parent was killed.
    writeln!(std::io::stdout(), "{}", serde_json::to_string(measured)?).context("writing to the parent")
}

/// Runs a child that kills itself with SIGKILL.
pub fn run_killed(program: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).arg("--child").args(arguments).status()?;
    anyhow::ensure!(status.signal().is_some(), "the child process for {arguments:?} was not killed: {status}");
    Ok(())
}

/// Runs several children that begin at the same time, and adds their results.
pub fn compete(program: &Path, processes: usize, arguments: &[String]) -> Result<Competed> {
    let mut all = crate::measure::new_latencies();
    let mut sum = Competed { hits: 0, errors: 0, seconds: 0.0, p99: 0.0, worst: 0.0, latencies: Vec::new() };
    for one in together::<Competed>(program, processes, arguments)? {
        sum.hits += one.hits;
        sum.errors += one.errors;
        sum.seconds = sum.seconds.max(one.seconds);
        sum.worst = sum.worst.max(one.worst);
        for (latency, count) in one.latencies {
            all.record_n(latency, count).context("a latency")?;
        }
    }
    sum.p99 = crate::measure::quantile(&all, 0.99);
    Ok(sum)
}

/// Starts children that begin at the same time, and returns the result of each.
fn together<T: DeserializeOwned>(program: &Path, processes: usize, arguments: &[String]) -> Result<Vec<T>> {
    let start = |_| PipedChild::start(program, arguments);
    let mut children = (0..processes).map(start).collect::<Result<Vec<_>>>()?;
    // A child writes an empty line when it is ready, and begins when it reads one.
    for child in &mut children {
        child.line()?;
    }
    for child in &mut children {
        child.proceed()?;
    }
    let receive = |mut child: PipedChild| {
        let result = child.receive()?;
        child.end()?;
        Ok(result)
    };
    children.into_iter().map(receive).collect()
}

/// What the readers of one image got, and what that cost.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Fetched {
    /// How many got the whole image.
    pub whole: usize,
    /// Its size, in bytes.
    pub size: usize,
    /// What the sources returned.
    pub bytes: u64,
    pub seconds: f64,
    /// The seconds that each reader waited for its first byte.
    pub first_bytes: Vec<f64>,
    /// Their median and their maximum.
    pub first_byte: [f64; 2],
}

/// Streams one image with so many readers in each of the processes, and adds their results.
pub fn stream_together(
    program: &Path,
    directory: &Path,
    processes: usize,
    readers: usize,
    size: usize,
) -> Result<Fetched> {
    let numbers = [readers, size].map(|number| number.to_string());
    let arguments = [vec!["stream".to_owned(), directory.display().to_string()], numbers.to_vec()].concat();
    let mut sum = Fetched { size, ..Fetched::default() };
    for one in together::<Fetched>(program, processes, &arguments)? {
        sum.whole += one.whole;
        sum.bytes += one.bytes;
        sum.seconds = sum.seconds.max(one.seconds);
        sum.first_bytes.extend(one.first_bytes);
    }
    sum.first_bytes.sort_by(f64::total_cmp);
    sum.first_byte = [sum.first_bytes[sum.first_bytes.len() / 2], sum.first_bytes[sum.first_bytes.len() - 1]];
    Ok(sum)
}

/// A child process that works beside the measurement. It ends with this value at the latest.
pub struct Neighbour {
    child: Child,
    has_ended: Arc<AtomicBool>,
}

impl Neighbour {
    /// Starts it, and waits for the empty line that it writes when it is prepared and begins.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program).arg("--child").args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("the child's output")?);
        let neighbour = Self { child, has_ended: Arc::default() };
        let began = output.read_line(&mut String::new())?;
        anyhow::ensure!(began > 0, "the child process for {arguments:?} did not begin");
        let has_ended = Arc::clone(&neighbour.has_ended);
        std::thread::spawn(move || {
            // The output is closed at its end.
            let _ = output.read_line(&mut String::new());
            has_ended.store(true, Ordering::Relaxed);
        });
        Ok(neighbour)
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Ends it. Fails if it failed before.
    pub fn end(mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success() || status.signal().is_some(), "a neighbour failed: {status}");
        Ok(())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts the syncs of hits with strace; `None` if strace is not installed or not permitted.
pub fn count_syncs(program: &Path, directory: &Path, arguments: &[String]) -> Result<Option<usize>> {
    let trace = directory.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o"]).arg(&trace).arg(program);
    command.args(["--child", "marked-hits"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let lines = BufReader::new(File::open(&trace)?).lines().collect::<std::io::Result<Vec<_>>>()?;
    let counted = count_marked(&lines).context("the trace has no marks")?;
    std::fs::remove_file(&trace)?;
    Ok(Some(counted))
}

fn count_marked(lines: &[String]) -> Option<usize> {
    let mark = |text: &str| lines.iter().position(|line| line.contains(text));
    let between = lines.get(mark(MARKS[0])?..mark(MARKS[1])?)?;
    Some(between.iter().filter(|line| line.contains("fsync(") || line.contains("fdatasync(")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_between_the_marks_count() {
        let trace = r#"
            7 fsync(3</c/incomplete/a>) = 0
            7 write(5</dev/null>, "hits begin", 10) = 10
            7 pwrite64(8</c/cache.db-wal>, "x"..., 24, 0) = 24
            7 fdatasync(8</c/cache.db>) = 0
            7 write(1</dev/pts/0>, "cache.db", 8) = 8
            7 write(5</dev/null>, "hits end", 8) = 8
            7 fsync(8</c/cache.db>) = 0"#;
        let lines: Vec<_> = trace.lines().map(ToOwned::to_owned).collect();
        assert_eq!(count_marked(&lines), Some(1));
        assert_eq!(count_marked(&lines[..3]), None);
    }
}
