//! `doctor`: what is wrong with a cache, and what to do about it.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};
use serde::Serialize;

use crate::doctor::finding::{Finding, Findings, counted};
use crate::doctor::fix::{Plan, plan};
use crate::doctor::kind::{MISSING, NO_CACHE, Severity, UNOPENABLE};
use crate::doctor::{Examination, examine};
use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::owner;

/// The library's default.
const STALL_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How wide the text is.
const COLUMNS: usize = 80;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "It changes nothing, unless --fix is given, and works when the cache cannot be
opened. Exit code: 0 nothing was found, or hints only; 7 there is no cache; 8 an
error or a warning was found. docs/doctor.md explains each number.

Examples: what is wrong; has a user all rights; repair what can be repaired
  image-cachectl doctor
  image-cachectl doctor --user nobody
  image-cachectl doctor --fix")]
pub struct Arguments {
    /// Repairs what an open and a clean by the library repair
    #[arg(long)]
    fix: bool,
    /// Examines with the rights of this user, such as nova or 64055:64055; needs root
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    if let Some(user) = &arguments.user {
        become_user(user)?;
    }
    let examination = Examination {
        directory: &settings.directory,
        stall_time: settings.stall_time.unwrap_or(STALL_TIME),
        database: settings.database.as_deref(),
    };
    let mut findings = examine(&examination);
    let mut fixed = Vec::new();
    let mut not_fixed = None;
    if arguments.fix {
        match plan(&findings) {
            Plan::Nothing => {}
            Plan::Refused(kind) => {
                not_fixed = Some(format!("{} comes first: until it is solved, the cache is not opened", kind.number));
            }
            Plan::Open { clean } => {
                let before = findings;
                let failure = repair(context, clean).err();
                findings = context.as_caller(|| examine(&examination))?;
                if let Some(failure) = failure {
                    findings.add(&UNOPENABLE, failure.message);
                }
                fixed = before.iter().filter(|found| !findings.has(found.kind)).map(|found| found.number).collect();
            }
        }
    }
    let directory = settings.directory.canonicalize().unwrap_or_else(|_| settings.directory.clone());
    let report = Report::new(directory, &findings, fixed, not_fixed);
    context.output.print(&report)?;
    Ok(match report.errors + report.warnings {
        _ if findings.has(&MISSING) || findings.has(&NO_CACHE) => Exit::NoCache,
        0 => Exit::Done,
        _ => Exit::Findings,
    })
}

/// Takes the rights of a user, finally.
fn become_user(text: &str) -> Result<(), Failure> {
    let (user, group) = owner::parse(text).map_err(Failure::usage)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let known = User::from_uid(user).ok().flatten().and_then(|known| CString::new(known.name).ok());
    let groups = known.map_or_else(|| setgroups(&[group]), |name| initgroups(&name, group));
    groups.and_then(|()| setgid(group)).and_then(|()| setuid(user)).map_err(|errno| {
        Failure::new(Exit::Failed, format!("cannot take the rights of user '{text}': {}", errno.desc()))
            .hint("Only root can do that: use sudo.")
    })
}

/// What the library repairs.
fn repair(context: &Context, clean: bool) -> Result<(), Failure> {
    let cache = context.open()?;
    if clean {
        cache.clean(None)?;
    }
    // It compares the index, if that is in doubt.
    cache.cache_size()?;
    Ok(())
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    /// As which user.
    user: u32,
    errors: usize,
    warnings: usize,
    infos: usize,
    findings: Vec<Finding>,
    /// The numbers of the findings that `--fix` solved.
    fixed: Vec<&'static str>,
    /// Why `--fix` did nothing.
    not_fixed: Option<String>,
}

impl Report {
    fn new(directory: PathBuf, findings: &Findings, fixed: Vec<&'static str>, not_fixed: Option<String>) -> Self {
        Self {
            directory,
            user: nix::unistd::geteuid().as_raw(),
            errors: findings.count(Severity::Error),
            warnings: findings.count(Severity::Warning),
            infos: findings.count(Severity::Info),
            findings: findings.sorted(),
            fixed,
            not_fixed,
        }
    }

    fn summary(&self) -> String {
        let parts =
            [(self.errors, "error", "errors"), (self.warnings, "warning", "warnings"), (self.infos, "hint", "hints")];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| counted(*count, one, many))
            .collect();
        if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") }
    }
}

impl Shown for Report {
    fn text(&self, page: &mut Page) {
        let shown = self.directory.display();
        if !self.fixed.is_empty() {
            page.good(&format!("Fixed: {}", self.fixed.join(", ")));
        }
        if self.errors + self.warnings == 0 {
            page.good(&format!("{shown}: {}", self.summary()));
        } else {
            page.heading(&format!("{shown}: {}", self.summary()));
        }
        for finding in &self.findings {
            page.gap();
            let heading = format!("{} {}: {}", finding.severity.name(), finding.number, finding.title);
            match finding.severity {
                Severity::Error => page.bad(&heading),
                Severity::Warning => page.warning(&heading),
                Severity::Info => page.heading(&heading),
            }
            paragraph(page, "  ", &finding.message);
            for item in finding.items.iter().take(SHOWN) {
                page.line(format!("    {item}"));
            }
            if finding.count > SHOWN.min(finding.items.len()) {
                page.line(format!("    and {} more", finding.count - SHOWN.min(finding.items.len())));
            }
            paragraph(page, "  -> ", finding.advice);
        }
        let fixable: Vec<_> =
            self.findings.iter().filter(|finding| finding.fixable).map(|found| found.number).collect();
        if let Some(why) = &self.not_fixed {
            page.gap();
            paragraph(page, "", &format!("Nothing was fixed: {why}."));
        } else if !fixable.is_empty() && self.fixed.is_empty() {
            page.gap();
            paragraph(page, "", &format!("'doctor --fix' repairs {}.", fixable.join(", ")));
        }
    }
}

/// So many items are shown to people; the JSON has more.
const SHOWN: usize = 5;

/// Text in lines that fit.
fn paragraph(page: &mut Page, indent: &str, text: &str) {
    let next = " ".repeat(indent.len());
    let options = textwrap::Options::new(COLUMNS).initial_indent(indent).subsequent_indent(&next).break_words(false);
    for line in textwrap::wrap(text, options) {
        page.line(line);
    }
}
