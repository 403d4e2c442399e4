//! Images from files and to files, against `cp` and the hash, and their inspection.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use image_cache::{Algorithm, DriverChoice, Durability, ExportOptions, ImageCache, ImportOptions, Options};
use sha2::Sha256;

use crate::bench::{Bench, in_binary};
use crate::builders::{Made, iso, qcow2, raw, vhd_dynamic, vhdx, vmdk};
use crate::caches::name_of;
use crate::content::{self, pieces, random_bytes};
use crate::measure::{Sample, alternate, alternate_runs, seconds};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

const CHUNK: usize = 1 << 20;
const ID: &str = "image";

/// A format's name, and an image of it.
type Example = (&'static str, fn() -> Made);

/// What an inspection adds to a commit.
pub fn inspect(bench: &mut Bench) -> Result<()> {
    let examples: [Example; 6] =
        [("raw", raw), ("qcow2", || qcow2(3)), ("vmdk", vmdk), ("vhd", vhd_dynamic), ("vhdx", vhdx), ("iso", iso)];
    for (format, image) in examples {
        let Made(image) = image();
        let options = Options::new().driver(DriverChoice::Sqlite).durability(Durability::None);
        let (inspected, _) = bench.new_cache_with(options.clone().formats(format)?)?;
        let (any, _) = bench.new_cache_with(options)?;
        let commit = |cache: &ImageCache, number| -> Result<()> {
            let mut writer = cache.begin_write(&name_of(number))?;
            writer.write_chunk(&image)?;
            Ok(writer.commit()?)
        };
        let pair =
            alternate(40, 20, Sample::Operation, |number| commit(&inspected, number), |number| commit(&any, number))?;
        let (ours, floor) = pair.medians();
        let row = format!("inspection of a {format} image of {} bytes at its commit", image.len());
        let target = Target::AtMost(Quantity::seconds(100e-6));
        let note = format!("a commit with it {}, without it {}", Quantity::seconds(ours), Quantity::seconds(floor));
        bench.report.add(Finding::new(row, Quantity::seconds((ours - floor).max(0.0)), target).note(note));
    }
    Ok(())
}

/// An export against `cp`, where both may share blocks.
pub fn export(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let (cache, directory) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    fill(&cache, &random_bytes(CHUNK), length)?;
    let (image, target) = (directory.join(ID), directory.with_file_name("exported"));
    let mut how = None;
    let (ours, floor) = alternate_runs(
        bench.sizes.rounds,
        || {
            let (took, copied) = seconds(|| {
                let file = File::create_new(&target)?;
                Ok(cache.export(ID, &file, ExportOptions::default(), |_, _| ControlFlow::Continue(()))?)
            })?;
            how = Some(copied);
            remove(&target, length)?;
            Ok(took)
        },
        || {
            let mut cp = Command::new("cp");
            let (took, status) =
                seconds(|| Ok(cp.args(["--sparse=always", "--reflink=auto"]).args([&image, &target]).status()?))?;
            ensure!(status.success(), "cp failed");
            remove(&target, length)?;
            Ok(took)
        },
    )?;
    let row = format!("export of {}", in_binary(length));
    let note = format!("floor: cp --sparse=always --reflink=auto; copied: {how:?}");
    bench.report.add(Finding::speeds(row, length, ours, floor, 0.95).note(note));
    Ok(())
}

/// An import with SHA-256 against the hash alone.
pub fn import(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let piece = random_bytes(CHUNK);
    let sha256 = content::digest::<Sha256>(&piece, length);
    let (cache, directory) = bench.new_cache(DriverChoice::Sqlite, Durability::None)?;
    fill(&cache, &piece, length)?;
    let source = File::open(directory.join(ID))?;
    let options = ImportOptions { digests: vec![(Algorithm::Sha256, sha256)], ..ImportOptions::default() };
    let mut how = None;
    let (ours, floor) = alternate_runs(
        bench.sizes.rounds,
        || {
            let go_on = |_, _| ControlFlow::Continue(());
            let (took, copied) = seconds(|| Ok(cache.import("imported", &source, &options, go_on)?))?;
            how = Some(copied);
            cache.delete_cached_image("imported")?;
            Ok(took)
        },
        || Ok(seconds(|| Ok(content::digest::<Sha256>(&piece, length)))?.0),
    )?;
    let row = format!("import of {} with SHA-256", in_binary(length));
    let note = format!("floor: the hash alone; the target is that of reflinks; copied: {how:?}");
    bench.report.add(Finding::speeds(row, length, ours, floor, 0.95).note(note));
    Ok(())
}

fn fill(cache: &ImageCache, piece: &[u8], length: usize) -> Result<()> {
    let mut writer = cache.begin_write(ID)?;
    pieces(piece, length).try_for_each(|piece| writer.write_chunk(piece))?;
    Ok(writer.commit()?)
}

fn remove(target: &Path, length: usize) -> Result<()> {
    ensure!(fs::metadata(target)?.len() == length as u64, "the copy has another length");
    Ok(fs::remove_file(target)?)
}
