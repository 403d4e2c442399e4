//! A cache, image-cachectl, and other programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image_cache::{DriverChoice, ImageCache, Options};
use libtest_mimic::Completion;

/// A cache in a directory of its own.
pub struct Cache {
    pub scratch: tempfile::TempDir,
    pub path: PathBuf,
    driver: DriverChoice,
}

impl Cache {
    /// With the images `one` and `two`, and one failed fetch.
    pub fn new(driver: DriverChoice) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("cache \"of\" \\ images");
        let cache = Self { scratch, path, driver };
        let handle = cache.open();
        for id in ["one", "two"] {
            let mut writer = handle.begin_write(id).unwrap();
            writer.write_chunk(&[7; 5000]).unwrap();
            writer.commit().unwrap();
        }
        handle.begin_write("failed").unwrap().abort("the source failed");
        drop(handle);
        cache
    }

    pub fn open(&self) -> ImageCache {
        ImageCache::open(&self.path, Options::new().driver(self.driver)).unwrap()
    }

    /// Reads an image to its end, in a handle of its own.
    pub fn read(&self, id: &str) {
        let mut reader = self.open().open_for_read(id).unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs image-cachectl.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
        command.arg("-C").arg(&self.path).args(arguments).env("IMAGE_CACHE_CONFIG", "/dev/null");
        command.current_dir(self.scratch.path()).output().unwrap()
    }

    /// The same, and its output. Fails if it fails, or warns.
    pub fn output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The skip of a test whose program is missing; `None` if it is there.
pub fn missing(program: &str) -> Option<Completion> {
    let directories = std::env::var("PATH").unwrap_or_default();
    let is_there = directories.split(':').any(|directory| Path::new(directory).join(program).exists());
    let why = || Completion::ignored_with(format!("{program} is missing; scripts/install-tools.sh installs it"));
    (!is_there).then(why)
}

/// Runs a program with a text as its input.
pub fn piped(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
