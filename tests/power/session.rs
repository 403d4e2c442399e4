//! A running workload, as its parent sees it: one event after another, each of which it must be allowed to go on from.

use std::io::{BufRead as _, BufReader, Result, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use image_cache::DriverChoice;

use crate::events::Event;

/// As whom the test's program is started to be a workload.
pub const WORKLOAD: &str = "--be-a-workload";

/// Which of the two durabilities the workload's caches are opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durabilities {
    Full,
    None,
    /// One or the other, at every opening.
    Both,
}

impl Durabilities {
    pub const ALL: [Self; 3] = [Self::Full, Self::None, Self::Both];

    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::None => "none",
            Self::Both => "both",
        }
    }
}

pub const DRIVERS: [DriverChoice; 2] = [DriverChoice::Sqlite, DriverChoice::Xattr];

pub fn driver_name(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Xattr { "xattr" } else { "sqlite" }
}

/// The workload's process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Session {
    process: Child,
    events: BufReader<ChildStdout>,
    replies: ChildStdin,
}

impl Session {
    /// Starts a workload on the volume that is mounted there. No two on one volume have the same generation.
    pub fn start(
        volume: &Path,
        driver: DriverChoice,
        durabilities: Durabilities,
        generation: u64,
        seed: u64,
    ) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(WORKLOAD)
            .arg(volume)
            .args([driver_name(driver), durabilities.name(), &generation.to_string(), &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let events = BufReader::new(process.stdout.take().expect("it is piped"));
        let replies = process.stdin.take().expect("it is piped");
        Ok(Self { process, events, replies })
    }

    /// The next event, which the workload waits at.
    pub fn next_event(&mut self) -> Result<Event> {
        let mut line = String::new();
        self.events.read_line(&mut line)?;
        line.trim_end().parse().map_err(std::io::Error::other)
    }

    /// Lets it go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.replies.write_all(b"\n")
    }

    /// Ends it, wherever it is.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Killed already, if all went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
