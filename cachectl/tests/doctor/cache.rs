//! A cache in a directory of its own, and what `doctor` says about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image_cache::{DriverChoice, ImageCache, Options};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;

/// The user without rights.
pub const NOBODY: &str = "nobody";

/// Findings that the machine's own file system has, full or not.
const OF_THE_MACHINE: [&str; 5] = ["IC021", "IC022", "IC030", "IC031", "IC071"];

/// A cache with the images `one` and `two`.
pub struct Cache {
    scratch: tempfile::TempDir,
    pub path: PathBuf,
    pub driver: DriverChoice,
}

impl Cache {
    pub fn new(driver: DriverChoice) -> Self {
        let cache = Self::empty(driver);
        cache.fill();
        cache
    }

    /// A directory without a cache yet.
    pub fn empty(driver: DriverChoice) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        // Other users of the tests come through.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = scratch.path().join("cache");
        fs::create_dir(&path).unwrap();
        Self { scratch, path, driver }
    }

    /// A cache on a file system of its own: its type and its options. The error says why it cannot be mounted.
    pub fn mounted(driver: DriverChoice, kind: &str, options: &str) -> Result<Self, String> {
        let cache = Self::empty(driver);
        let data = std::ffi::CString::new(options).unwrap();
        mount("none", &cache.path, kind, MountFlags::empty(), data.as_c_str())
            .map_err(|error| format!("{kind} cannot be mounted: {error}"))?;
        Ok(cache)
    }

    pub fn options(&self) -> Options {
        Options::new().driver(self.driver)
    }

    pub fn open(&self) -> ImageCache {
        ImageCache::open(&self.path, self.options()).unwrap()
    }

    /// Caches the images `one` and `two`.
    pub fn fill(&self) {
        let cache = self.open();
        for id in ["one", "two"] {
            let mut writer = cache.begin_write(id).unwrap();
            writer.write_chunk(b"the image's bytes").unwrap();
            writer.commit().unwrap();
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A path beside the cache.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn is_sqlite(&self) -> bool {
        self.driver == DriverChoice::Sqlite
    }

    /// Examines it.
    pub fn doctor(&self, arguments: &[&str]) -> Examined {
        examined(doctor(&self.path, arguments))
    }
}

/// The command that examines a directory, without this host's configuration.
pub fn doctor(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
    command.args(["--json", "-C"]).arg(directory).arg("doctor").args(arguments);
    command.env("IMAGE_CACHE_CONFIG", "/dev/null");
    command
}

/// Runs an examination.
pub fn examined(mut command: Command) -> Examined {
    let output = command.output().unwrap();
    Examined::of(&output)
}

/// What an examination printed.
#[derive(Debug)]
pub struct Examined {
    pub code: i32,
    pub json: Value,
}

impl Examined {
    pub fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} {errors:?}"));
        Self { code: output.status.code().unwrap(), json }
    }

    /// The numbers of its findings.
    pub fn numbers(&self) -> Vec<&str> {
        self.json["findings"].as_array().unwrap().iter().map(|found| found["number"].as_str().unwrap()).collect()
    }

    /// The items of a finding, in lines. Fails without the finding.
    pub fn items(&self, number: &str) -> String {
        let findings = self.json["findings"].as_array().unwrap();
        let found = findings.iter().find(|found| found["number"] == number);
        let found = found.unwrap_or_else(|| panic!("{number} is not in {:#}", self.json));
        let items = found["items"].as_array().unwrap().iter().map(|item| item.as_str().unwrap());
        items.chain([found["message"].as_str().unwrap()]).collect::<Vec<_>>().join("\n")
    }

    /// Exactly these findings, apart from the machine's own; the exit code says so.
    #[track_caller]
    pub fn assert_only(&self, expected: &[&str]) {
        let mut numbers = self.numbers();
        numbers.retain(|number| expected.contains(number) || !OF_THE_MACHINE.contains(number));
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "{:#}", self.json);
        let count = self.json["errors"].as_u64().unwrap() + self.json["warnings"].as_u64().unwrap();
        let is_none = expected.iter().any(|number| ["IC001", "IC003"].contains(number));
        assert_eq!(
            self.code,
            if is_none {
                7
            } else if count > 0 {
                8
            } else {
                0
            }
        );
    }

    /// What `--fix` solved.
    pub fn fixed(&self) -> Vec<&str> {
        self.json["fixed"].as_array().unwrap().iter().map(|number| number.as_str().unwrap()).collect()
    }
}
