//! Writing large images with an expected digest.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use image_cache::{Algorithm, DriverChoice, Durability};
use md5::Md5;
use sha2::Sha256;

use crate::bench::{Bench, in_binary};
use crate::content::{self, pieces, random_bytes};
use crate::floor::Directory;
use crate::measure::{alternate_runs, median, seconds};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::streams::write_image;

const CHUNK: usize = 1 << 20;

pub fn digest(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let piece = random_bytes(CHUNK);
    let expected = [
        (Algorithm::Md5, "md5", content::digest::<Md5>(&piece, length)),
        (Algorithm::Sha256, "sha256", content::digest::<Sha256>(&piece, length)),
    ];
    let same_bytes = bench.caches.scratch("to-hash");
    let mut file = File::create_new(&same_bytes)?;
    pieces(&piece, length).try_for_each(|piece| file.write_all(piece))?;
    drop(file);
    let bare = Directory::create(&bench.caches.scratch("bare"))?;

    let (cache, _) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    for (name, wanted, target) in
        [("MD5", &expected[..1], 0.95), ("SHA-256", &expected[1..], 0.90), ("MD5 and SHA-256", &expected[..], 0.90)]
    {
        let mut stalls = Vec::new();
        let mut hashed_by = "";
        let mut disk_is_slower = false;
        let (ours, floor) = alternate_runs(
            bench.sizes.rounds,
            || {
                bare.settle()?;
                let (took, stall) = write_image(&cache, pieces(&piece, length), |writer| {
                    wanted.iter().try_for_each(|(algorithm, _, hex)| writer.expect_digest(*algorithm, hex))
                })?;
                stalls.push(stall);
                Ok(took)
            },
            || {
                bare.settle()?;
                let mut slowest = 0.0_f64;
                for (_, command, _) in wanted {
                    let alone = openssl(command, &same_bytes)?;
                    hashed_by = if alone.is_some() { "openssl" } else { "this program: openssl is not installed" };
                    let took = alone.map_or_else(|| in_this_process(command, &piece, length), Ok)?;
                    slowest = slowest.max(took);
                }
                if name == "MD5" {
                    return Ok(slowest);
                }
                // The floor is the slower of the hash and the disk.
                bare.settle()?;
                let disk = bare.stream("stream", pieces(&piece, length), true)?;
                disk_is_slower = disk > slowest;
                Ok(slowest.max(disk))
            },
        )?;
        let limit =
            if disk_is_slower { "the disk alone".to_owned() } else { format!("the hash alone, by {hashed_by}") };
        let row = format!("write {} with {name} expected, durability full", in_binary(length));
        bench.report.add(Finding::speeds(row, length, ours, floor, target).note(format!("floor: {limit}")));
        let target = if name == "MD5" { Target::AtMost(Quantity::seconds(0.020)) } else { Target::None };
        let stall = Quantity::seconds(median(&mut stalls));
        bench.report.add(Finding::new(format!("... and its commit, after the last chunk ({name})"), stall, target));
    }
    std::fs::remove_file(&same_bytes)?;
    Ok(())
}

/// The seconds of openssl for a file in the page cache, without its start; `None` if it is not installed.
fn openssl(command: &str, file: &Path) -> Result<Option<f64>> {
    let run = |file: &Path| -> Result<Option<f64>> {
        let (took, status) = seconds(|| {
            let status = Command::new("openssl").arg(command).arg(file).stdout(Stdio::null()).status();
            Ok(status.ok())
        })?;
        Ok(status.is_some_and(|status| status.success()).then_some(took))
    };
    let Some(start) = run(Path::new("/dev/null"))? else { return Ok(None) };
    Ok(run(file)?.map(|took| (took - start).max(f64::EPSILON)))
}

fn in_this_process(command: &str, piece: &[u8], length: usize) -> Result<f64> {
    let hash = if command == "md5" { content::digest::<Md5> } else { content::digest::<Sha256> };
    let (took, digest) = seconds(|| Ok(hash(piece, length)))?;
    anyhow::ensure!(!digest.is_empty(), "an empty digest");
    Ok(took)
}
