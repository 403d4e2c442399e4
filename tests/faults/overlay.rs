//! A reader writes: on overlayfs, a read of an image in the lower layer must not copy it into the upper one.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::c::{Cache, Driver, Settings};
use crate::machine::{Mount, Need, fill, scratch, text, trials};
use crate::operations;

const IMAGES: [&str; 3] = ["1", "2", "3"];
const LENGTH: usize = 2 << 20;

pub fn trials_of_kind() -> Vec<Trial> {
    let overlay = &[Need::Mounts, Need::Kernel("overlay")];
    [
        trials("overlay::reads_copy_nothing", overlay, |driver| reads(driver, Upper::Empty)),
        trials("overlay::reads_with_a_full_upper_layer", overlay, |driver| reads(driver, Upper::Full)),
        trials("overlay::reads_without_an_upper_layer", overlay, |driver| reads(driver, Upper::None)),
        trials("overlay::new_images_are_in_the_upper_layer", overlay, new_images),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Upper {
    Empty,
    Full,
    None,
}

struct Setup {
    merged: PathBuf,
    upper: PathBuf,
    // Unmounted in this order.
    _overlay: Mount,
    _memory: Mount,
    _scratch: TempDir,
}

/// A cache with images in a lower layer.
fn setup(driver: Driver, has_upper: bool) -> Result<Setup, Failed> {
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name);
    let cache = Cache::open(&path("lower"), Settings::new(driver).durable())?;
    for id in IMAGES {
        cache.write(id, &vec![7; LENGTH])?;
    }
    drop(cache);
    let memory = Mount::new(&["-t", "tmpfs", "-o", "size=5m", "none"], &path("memory"))?;
    let (upper, work) = (path("memory/upper"), path("memory/work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    fs::create_dir(path("nothing")).unwrap();
    let lower = format!("lowerdir={}", text(&path("lower")));
    let layers = if has_upper {
        format!("{lower},upperdir={},workdir={}", text(&upper), text(&work))
    } else {
        format!("{lower}:{}", text(&path("nothing")))
    };
    let merged = path("merged");
    let overlay = Mount::new(&["-t", "overlay", "-o", &layers, "overlay"], &merged)?;
    Ok(Setup { merged, upper, _overlay: overlay, _memory: memory, _scratch: scratch })
}

fn bytes_below(directory: &Path) -> u64 {
    fs::read_dir(directory).unwrap().map(Result::unwrap).fold(0, |sum, entry| {
        let stat = entry.metadata().unwrap();
        sum + if stat.is_dir() { bytes_below(&entry.path()) } else { stat.len() }
    })
}

fn reads(driver: Driver, kind: Upper) -> Result<(), Failed> {
    let setup = setup(driver, kind != Upper::None)?;
    let cache = Cache::open(&setup.merged, Settings::new(driver))?;
    if kind == Upper::Full {
        fill(&setup.upper.with_file_name("others"));
    }
    for _ in 0..3 {
        for id in IMAGES {
            assert!(cache.is_cached(id)?);
            assert_eq!(cache.image_size(id)?, LENGTH as u64);
            assert_eq!(cache.read(id)?, vec![7; LENGTH]);
        }
        if kind != Upper::Full {
            assert_eq!(cache.list_cached()?.len(), IMAGES.len());
            assert_eq!(cache.size()?, (IMAGES.len() * LENGTH) as u64);
        }
    }
    drop(cache);
    let copied: Vec<_> = IMAGES.into_iter().filter(|id| setup.upper.join(id).exists()).collect();
    assert!(copied.is_empty(), "copied: {copied:?}");
    if kind == Upper::Empty {
        let bytes = bytes_below(&setup.upper);
        assert!(bytes < LENGTH as u64 / 4, "{bytes} bytes were copied");
    }
    Ok(())
}

/// Beside the lower layer's images, the cache goes on.
fn new_images(driver: Driver) -> Result<(), Failed> {
    let setup = setup(driver, true)?;
    let cache = operations::open(&setup.merged, driver)?;
    for (name, operation) in operations::ALL.iter().filter(|(name, _)| !name.contains("digests")) {
        assert_eq!(operation(&cache), 0, "{name}");
    }
    operations::check_kept(&cache)?;
    assert!(setup.upper.join(operations::KEPT).exists());
    cache.delete("1")?;
    assert!(!cache.is_cached("1")?);
    drop(cache);
    let cache = Cache::open(&setup.merged, Settings::new(driver))?;
    assert_eq!(cache.list_cached()?.len(), 3);
    Ok(())
}
