//! A running workload, as its parent sees it: it stops at each event until the parent replies.

use std::io::{self, BufRead as _, BufReader, Read as _, Result, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use image_cache::DriverChoice;

use crate::events::Event;

/// The first argument of this program as a workload.
pub const WORKLOAD: &str = "--be-a-workload";

/// The durabilities of the workload's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durabilities {
    Full,
    None,
    /// One or the other, at each open.
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

pub fn driver_of(name: &str) -> DriverChoice {
    DRIVERS.into_iter().find(|known| driver_name(*known) == name).expect("a driver")
}

/// In the workload's process: reports an event, and waits for the reply.
pub fn report(event: &Event) {
    let mut output = io::stdout().lock();
    writeln!(output, "{event}").and_then(|()| output.flush()).expect("the parent reads");
    io::stdin().read_exact(&mut [0]).expect("the parent replies");
}

/// The workload's process. It is killed on drop.
#[derive(Debug)]
pub struct Session {
    process: Child,
    events: BufReader<ChildStdout>,
    replies: ChildStdin,
}

impl Session {
    /// Starts a workload on a mounted volume. Each workload on a volume has its own generation.
    pub fn start(
        volume: &Path,
        driver: DriverChoice,
        durabilities: Durabilities,
        generation: u64,
        seed: u64,
    ) -> Result<Self> {
        let numbers = [generation, seed].map(|number| number.to_string());
        Self::start_as(WORKLOAD, volume, driver, &[durabilities.name(), &numbers[0], &numbers[1]])
    }

    /// Starts this program as something that reports events and waits for replies.
    pub fn start_as(kind: &str, volume: &Path, driver: DriverChoice, arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(kind)
            .arg(volume)
            .arg(driver_name(driver))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let events = BufReader::new(process.stdout.take().expect("it is piped"));
        let replies = process.stdin.take().expect("it is piped");
        Ok(Self { process, events, replies })
    }

    /// The next event, at which the workload waits.
    pub fn next_event(&mut self) -> Result<Event> {
        let mut line = String::new();
        self.events.read_line(&mut line)?;
        line.trim_end().parse().map_err(std::io::Error::other)
    }

    /// Lets the workload go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.replies.write_all(b"\n")
    }

    /// Kills the workload.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // After a success it has been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
