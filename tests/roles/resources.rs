//! What a process uses: descriptors, threads and memory, from `/proc/self`.

use std::fs;

/// The open descriptors: number and target. Without the one that reads the list.
pub fn descriptors() -> Vec<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let Ok(target) = fs::read_link(&path) else { continue };
        if !target.to_string_lossy().ends_with("/fd") {
            open.push(format!("{} -> {}", path.file_name().unwrap().display(), target.display()));
        }
    }
    open.sort();
    open
}

pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// The anonymous memory that is resident, in KiB.
pub fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
