//! `take-over`: the hits and last accesses that another program counted, in the order of a query on its database. Every line is read before
//! the first image is changed, and a repetition changes nothing.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use image_cache::Error;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{count, images};

/// Arguments of `take-over`.
#[derive(Debug, Args)]
#[command(after_help = "Glance's driver centralized_db keeps hits and last accesses in its database.
Those of its other drivers are in the directory, and need no command. The query
for the node with the worker_self_reference_url http://node-1:9292 is

  SELECT image_id, hits, last_accessed FROM cached_images
    JOIN node_reference USING (node_reference_id)
    WHERE node_reference_url = 'http://node-1:9292';

Each line has an image's id, its hits and its last access, separated by tabs, as
'mysql -BN', 'psql -AtF <tab>' and 'sqlite3 -tabs' print them. The access is a
time in UTC, or in seconds since 1970. Lines of images that are not cached are
skipped.

Example: with that query in a file
  mysql -BN glance < query.sql | image-cachectl take-over -")]
pub struct Arguments {
    /// The file with the lines; '-': stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Shows what would be taken over
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let text = read(&arguments.file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines
        .map(|(place, line)| parse(line).map_err(|why| Failure::usage(format!("line {}: {why}: {line:?}", place + 1))));
    let accesses = parsed.collect::<Result<Vec<_>, _>>()?;
    let mut taken_over =
        TakenOver { dry_run: arguments.dry_run, images: 0, hits: 0, not_cached: Vec::new(), without_line: 0 };
    context.stop.watch();
    for access in &accesses {
        context.stop.check()?;
        let done = if arguments.dry_run {
            cache.image_size(access.id).map(drop)
        } else {
            cache.set_access(access.id, access.hits, access.last_accessed)
        };
        match done {
            Ok(()) => {
                taken_over.images += 1;
                taken_over.hits = taken_over.hits.saturating_add(access.hits);
            }
            Err(Error::NotFound { .. } | Error::InvalidImageId { .. }) => {
                taken_over.not_cached.push(access.id.to_owned());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut named: Vec<_> = accesses.iter().map(|access| access.id).collect();
    named.sort_unstable();
    let is_named = |id: &str| named.binary_search(&id).is_ok();
    taken_over.without_line = cache.list_cached()?.filter(|image| !is_named(&image.image_id)).count() as u64;
    context.output.print(&taken_over)?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text).map_err(|error| Failure::io("read stdin", &error))?;
        return Ok(text);
    }
    fs::read_to_string(file).map_err(|error| Failure::io(&format!("read '{}'", file.display()), &error))
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
struct Access<'a> {
    id: &'a str,
    hits: u64,
    /// Nanoseconds since 1970.
    last_accessed: i64,
}

fn parse(line: &str) -> Result<Access<'_>, &'static str> {
    let fields: Vec<_> = line.split('\t').map(str::trim).collect();
    let [id, hits, last_accessed] = fields[..] else {
        return Err("it must have an id, hits and a last access, separated by tabs");
    };
    let hits = hits.parse().map_err(|_| "the hits are no number")?;
    let last_accessed = parse_time(last_accessed).ok_or("the last access is no time")?;
    Ok(Access { id, hits, last_accessed })
}

/// `2026-11-29 21:06:04.858779`, as databases print it, RFC 3339 in UTC, or seconds since 1970 such as 1795985164.858779.
fn parse_time(text: &str) -> Option<i64> {
    let since_1970 = match text.parse::<f64>() {
        Ok(seconds) => std::time::Duration::try_from_secs_f64(seconds).ok()?,
        // PostgreSQL prints the zone of a column that has one.
        Err(_) => humantime::parse_rfc3339_weak(text.trim_end_matches("+00")).ok()?.duration_since(UNIX_EPOCH).ok()?,
    };
    i64::try_from(since_1970.as_nanos()).ok()
}

#[derive(Debug, Serialize)]
struct TakenOver {
    dry_run: bool,
    images: u64,
    hits: u64,
    /// The ids of lines that were skipped.
    not_cached: Vec<String>,
    /// How many cached images have no line, and stay as they are.
    without_line: u64,
}

impl Shown for TakenOver {
    fn text(&self, page: &mut Page) {
        let verb = if self.dry_run { "would get" } else { "got" };
        page.line(format!("{} {verb} hits ({}) and last accesses", images(self.images), count(self.hits)));
        match self.not_cached.len() {
            0 => {}
            1 => page.line("1 line of an image that is not cached: skipped"),
            lines => page.line(format!("{} lines of images that are not cached: skipped", count(lines as u64))),
        }
        if self.without_line > 0 {
            page.line(format!("{} without a line: as before", images(self.without_line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: i64 = 1_795_986_364;

    #[test]
    fn a_line_of_each_database_is_an_access() {
        for (time, nanoseconds) in [
            ("2026-11-29 21:06:04", 0),
            ("2026-11-29 21:06:04.858779", 858_779_000),
            ("2026-11-29 21:06:04.5+00", 500_000_000),
            ("2026-11-29T21:06:04Z", 0),
            ("1795986364.25", 250_000_000),
            ("1795986364", 0),
        ] {
            let line = format!("71c675ab-d94f-49cd-a114-e12490b328d9\t7\t{time}");
            let last_accessed = SECONDS * 1_000_000_000 + nanoseconds;
            let access = Access { id: "71c675ab-d94f-49cd-a114-e12490b328d9", hits: 7, last_accessed };
            assert_eq!(parse(&line), Ok(access), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        for line in [
            "1 7 2026-11-29",
            "1\t7",
            "1\tmany\t0",
            "1\t-1\t0",
            "1\t7\tyesterday",
            "1\t7\t-5",
            "1\t7\t0\t0",
            "1\t7\tnan",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
