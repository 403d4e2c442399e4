//! The real program on scratch caches of either driver.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image_cache::{DriverChoice, Durability, ImageCache, Options};
use serde_json::Value;
use tempfile::TempDir;

pub const DRIVERS: [&str; 2] = ["sqlite", "xattr"];

/// A scratch directory with a cache.
pub struct Cache {
    pub scratch: TempDir,
    pub driver: &'static str,
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{output:?}"));
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The JSON of its output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// The program, without the settings of the user who runs the tests.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
    for name in ["IMAGE_CACHE_DIR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    // Not /etc/image-cache.toml.
    command.env("IMAGE_CACHE_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Run {
    Run::new(&command.output().unwrap())
}

impl Cache {
    pub fn new(driver: &'static str) -> Self {
        let cache = Self::absent(driver);
        cache.run(&["--driver", driver, "create"]).expect(0);
        cache
    }

    /// A directory without a cache.
    pub fn absent(driver: &'static str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self { scratch, driver }
    }

    pub fn directory(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// A path beside the cache.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.arg("-C").arg(self.directory()).args(arguments).current_dir(self.scratch.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    /// Runs it with `--json`, and fails unless it succeeds.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).expect(0).json()
    }

    /// Runs it with bytes on its stdin.
    pub fn run_with(&self, arguments: &[&str], bytes: &[u8]) -> Run {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The program may end before it has read all of it.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        Run::new(&child.wait_with_output().unwrap())
    }

    /// Caches an image.
    #[track_caller]
    pub fn add(&self, id: &str, bytes: &[u8]) {
        self.run_with(&["add", id], bytes).expect(0);
    }

    /// The ids of the cached images.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        let list = self.run(&["list", "--quiet"]).expect(0).stdout;
        list.lines().map(str::to_owned).collect()
    }

    /// The same cache as an agent has it open.
    pub fn open(&self) -> ImageCache {
        let driver = if self.driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        let options = Options::new().driver(driver).durability(Durability::None);
        ImageCache::open(self.directory(), options).unwrap()
    }
}

/// A file with these bytes.
pub fn file(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}
