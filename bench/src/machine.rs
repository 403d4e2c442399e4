//! The machine: processor, kernel, file system, and load.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// A description of the machine; unknown values say so.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    pub file_system: String,
    /// Over the last minute before the first measurement.
    pub load: f64,
}

impl Machine {
    pub fn describe(directory: &Path) -> Self {
        let line_of = |file: &str, name: &str| {
            let text = read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        Self {
            processor: line_of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: line_of("/proc/meminfo", "MemTotal"),
            kernel: read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            file_system: file_system(directory),
            load: load(),
        }
    }

    /// Other processes take time from this one.
    pub fn is_busy(&self) -> bool {
        self.load > 0.3 * self.cores as f64
    }

    pub fn print(&self) {
        println!("processor    {}, {} cores", self.processor, self.cores);
        println!("memory       {}", self.memory);
        println!("kernel       {}", self.kernel);
        println!("file system  {}", self.file_system);
        println!("load         {:.2} in the last minute", self.load);
        if self.is_busy() {
            println!("WARNING: the machine is busy. Ratios are less exact, and latencies are not comparable.");
        }
    }
}

/// The load over the last minute.
pub fn load() -> f64 {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Its type and options, by util-linux.
fn file_system(directory: &Path) -> String {
    let arguments = ["--noheadings", "--output", "FSTYPE,OPTIONS", "--target"];
    let output = Command::new("findmnt").args(arguments).arg(directory).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { "unknown (findmnt is not installed)".to_owned() } else { words.join(", ") }
}
