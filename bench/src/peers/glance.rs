//! Glance's image cache, in its own Python environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::peers::compared::{COMMIT, Measured, PIECE, Work, name_of_read, name_of_write};
use crate::quantity::Quantity;

/// Does the work of `compared` with Glance's cache.
const PROGRAM: &str = include_str!("glance.py");

/// A figure that the program prints.
#[derive(Deserialize)]
struct Printed {
    operation: String,
    images: Option<usize>,
    seconds: f64,
}

/// Creates the environment if it does not exist. Returns the path of its Python.
pub fn install(environment: &Path) -> Result<PathBuf> {
    let python = environment.join("bin").join("python");
    let has_glance = || {
        let mut command = Command::new(&python);
        command.args(["-c", "import glance.image_cache, xattr"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if has_glance() {
        return Ok(python);
    }
    eprintln!("  (installing Glance with pip, which takes a minute or two)");
    let run = |program: &Path, arguments: &[&str]| -> Result<()> {
        let output = Command::new(program).args(arguments).output();
        let output = output.with_context(|| format!("{} cannot be run", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("{} {arguments:?} failed: {}", program.display(), text.lines().last().unwrap_or_default());
        }
        Ok(())
    };
    run(Path::new("python3"), &["-m", "venv", &environment.display().to_string()])?;
    run(&python, &["-m", "pip", "install", "--quiet", "glance", "xattr"])?;
    if !has_glance() {
        bail!("Glance was installed, but cannot be imported");
    }
    Ok(python)
}

pub fn measure(python: &Path, who: &str, driver: &str, work: &Work, directory: &Path) -> Result<Measured> {
    std::fs::create_dir(directory)?;
    let counts = work.counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let output = Command::new(python)
        .args(["-c", PROGRAM, driver, &directory.display().to_string(), &counts])
        .args([work.stream.to_string(), PIECE.to_string()])
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("its program failed: {}", text.lines().last().unwrap_or_default());
    }
    let mut measured = Measured::new(who);
    for line in String::from_utf8(output.stdout)?.lines() {
        let Printed { operation, images, seconds } =
            serde_json::from_str(line).with_context(|| format!("it printed '{line}'"))?;
        let speed = Quantity::bytes_per_second(work.stream as f64 / seconds);
        match (operation.as_str(), images) {
            (_, Some(images)) => measured.add(&operation, images, seconds),
            ("write", None) => measured.figures.figures.push((name_of_write(work.stream), speed)),
            ("read", None) => measured.figures.figures.push((name_of_read(work.stream), speed)),
            _ => measured.figures.figures.push((COMMIT.to_owned(), Quantity::seconds(seconds))),
        }
    }
    Ok(measured)
}
