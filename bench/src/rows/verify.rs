//! Verifying a large image, against the disk and the hash.

use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Result, ensure};
use image_cache::{Algorithm, DriverChoice, Durability, VerifyOptions};
use rustix::fs::OFlags;
use sha2::Sha256;

use crate::bench::{Bench, in_binary};
use crate::content::{self, pieces, random_bytes};
use crate::measure::{alternate_runs, seconds};
use crate::report::Finding;

const CHUNK: usize = 1 << 20;

pub fn verify(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let piece = random_bytes(CHUNK);
    let sha256 = content::digest::<Sha256>(&piece, length);
    let (cache, directory) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    for name in ["CRC-64/NVME", "SHA-256"] {
        let is_sha256 = name == "SHA-256";
        let id = if is_sha256 { "sha256" } else { "crc64nvme" };
        let mut writer = cache.begin_write(id)?;
        if is_sha256 {
            writer.expect_digest(Algorithm::Sha256, &sha256)?;
        }
        pieces(&piece, length).try_for_each(|piece| writer.write_chunk(piece))?;
        writer.commit()?;
        let file = directory.join(id);
        let mut disk_is_slower = true;
        let (ours, floor) = alternate_runs(
            bench.sizes.rounds,
            || {
                let go_on = |_: &str, _, _| ControlFlow::Continue(());
                let (took, result) = seconds(|| Ok(cache.verify(Some(id), &VerifyOptions::default(), go_on)?))?;
                ensure!(result.verified == 1, "it is not verified: {result:?}");
                Ok(took)
            },
            || {
                let (disk, ()) = seconds(|| read_directly(&file))?;
                // A CRC is many times faster than any disk.
                let hash = if is_sha256 { seconds(|| Ok(content::digest::<Sha256>(&piece, length)))?.0 } else { 0.0 };
                disk_is_slower = disk > hash;
                Ok(disk.max(hash))
            },
        )?;
        let limit = if disk_is_slower { "the disk alone, with O_DIRECT" } else { "the hash alone" };
        let row = format!("verify {} with {name}", in_binary(length));
        bench.report.add(Finding::speeds(row, length, ours, floor, 0.90).note(format!("floor: {limit}")));
    }
    Ok(())
}

fn read_directly(path: &Path) -> Result<()> {
    let mut file = File::options().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)?;
    let mut memory = vec![0; CHUNK + 4096];
    let begin = memory.as_ptr().align_offset(4096);
    while file.read(&mut memory[begin..][..CHUNK])? > 0 {}
    Ok(())
}
