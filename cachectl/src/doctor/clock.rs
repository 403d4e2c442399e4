//! Files of the future: the clock was ahead, and was set back since.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::{Findings, counted};
use super::kind;
use super::scan::Scan;
use crate::units::duration;

/// Clocks are adjusted in small steps.
const TOLERANCE: Duration = Duration::from_secs(2);

pub fn check(scan: &Scan, findings: &mut Findings) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TOLERANCE;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut future = Vec::new();
    for area in scan.all() {
        for image in &area.images {
            let times = [("accessed", image.stat.st_atime), ("modified", image.stat.st_mtime)];
            let ahead = times.iter().map(|(what, time)| (what, time.saturating_sub(now)));
            if let Some((what, seconds)) = ahead.filter(|(_, seconds)| *seconds > 0).max_by_key(|(_, seconds)| *seconds)
            {
                let directory = if area.name.is_empty() { String::new() } else { format!("{}/", area.name) };
                future.push(format!(
                    "{directory}{}: {what} {} from now",
                    image.shown(),
                    duration(Duration::from_secs(seconds.unsigned_abs()))
                ));
            }
        }
    }
    findings.add_if_any(&kind::FUTURE, future, |count| {
        format!("{} in the future of this host's clock", counted(count, "file has a time", "files have times"))
    });
}
