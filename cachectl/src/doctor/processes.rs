//! The processes that use the directory: stopped ones, and Glance's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::finding::{Findings, printable};
use super::kind;
use super::scan::Scan;

/// Where Glance names its cache's directory.
const CONFIGURATIONS: [&str; 2] = ["/etc/glance/glance-api.conf", "/etc/glance/glance-cache.conf"];

/// A process.
#[derive(Debug)]
struct Process {
    id: u32,
    /// As ps shows it: T and t are stopped.
    state: char,
    /// The program, and its first argument: Python programs are named by that.
    names: Vec<String>,
    /// Whether it has a file of the cache open.
    is_user: bool,
}

impl Process {
    fn shown(&self) -> String {
        let program = self.names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(" ");
        format!("process {}: {program}", self.id)
    }

    fn is_glance(&self) -> bool {
        let is_named = |name: &String| {
            Path::new(name).file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"glance"))
        };
        self.names.iter().any(is_named)
    }
}

pub fn check(scan: &Scan, findings: &mut Findings) {
    let processes = processes(&scan.path);
    let stopped = processes.iter().filter(|process| process.is_user && matches!(process.state, 'T' | 't'));
    findings.add_if_any(&kind::STOPPED, stopped.map(Process::shown).collect(), |count| {
        super::finding::counted(count, "process is stopped", "processes are stopped")
    });
    let is_configured = CONFIGURATIONS.iter().any(|path| names_directory(Path::new(path), &scan.path));
    let glance = processes.iter().filter(|process| process.is_glance() && (process.is_user || is_configured));
    findings.add_if_any(&kind::GLANCE, glance.map(Process::shown).collect(), |_| {
        "Glance, or another program, uses the directory".to_owned()
    });
}

/// The processes that this user may examine.
fn processes(directory: &Path) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| *id != std::process::id()).filter_map(|id| process(id, directory)).collect()
}

fn process(id: u32, directory: &Path) -> Option<Process> {
    let path = PathBuf::from(format!("/proc/{id}"));
    let text = std::fs::read_to_string(path.join("stat")).ok()?;
    // The name is between parentheses, and can have some.
    let state = text.rsplit_once(") ")?.1.chars().next()?;
    let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
    let names = arguments.split(|byte| *byte == 0).take(2).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let open = std::fs::read_dir(path.join("fd")).into_iter().flatten();
    let is_user =
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).any(|file| is_below(&file, directory));
    Some(Process { id, state, names, is_user })
}

fn is_below(file: &Path, directory: &Path) -> bool {
    file.starts_with(directory)
}

/// Whether Glance's configuration names the directory.
fn names_directory(configuration: &Path, directory: &Path) -> bool {
    let text = std::fs::read_to_string(configuration).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .any(|(key, value)| key.trim() == "image_cache_dir" && Path::new(OsStr::new(value.trim())) == directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Process {
        Process { id: 1, state: 'S', names: names.iter().map(|name| (*name).to_owned()).collect(), is_user: true }
    }

    #[test]
    fn glance_is_known_by_the_name_of_its_program_or_script() {
        assert!(named(&["/usr/bin/python3", "/usr/bin/glance-api"]).is_glance() && named(&["glance-api"]).is_glance());
        assert!(!named(&["/usr/bin/vi", "/etc/glance/glance-api.conf.old/notes"]).is_glance());
        assert!(!named(&["/opt/glance/agent"]).is_glance());
    }

    #[test]
    fn a_configuration_names_its_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[DEFAULT]\n#image_cache_dir = /a\nimage_cache_dir = /b\n").unwrap();
        assert!(names_directory(file.path(), Path::new("/b")) && !names_directory(file.path(), Path::new("/a")));
    }
}
