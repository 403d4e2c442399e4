//! 5,000 streams in one process: what they take of its descriptors, and what happens without any left.

use std::path::Path;
use std::time::Duration;

use image_cache::{DriverChoice, ImageCache, Stream, StreamRole};
use libtest_mimic::Trial;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::checks::{check_clean, check_listing, file_names};
use crate::child::options;
use crate::images::Image;
use crate::processes::Process;
use crate::streaming::read_to_end;
use crate::{driver_name, resources};

/// Half of them are of one image, each of the others is of its own.
const STREAMS: usize = 5000;

/// What those streams may have, and the process beside them.
const DESCRIPTORS: u64 = 2 * STREAMS as u64 + 200;

/// The streams of the process with too few descriptors, and its descriptors.
const FEW_STREAMS: usize = 600;
const FEW_DESCRIPTORS: u64 = 256;

const SIZE: u64 = 70_000;

pub fn trials(driver: DriverChoice) -> Vec<Trial> {
    let missing = getrlimit(Resource::Nofile).maximum.is_some_and(|maximum| maximum < DESCRIPTORS);
    let name = format!("{}::5000_streams_have_2_descriptors_for_each_image", driver_name(driver));
    if missing {
        eprintln!("{name} is ignored: the limit of descriptors (ulimit -Hn) is below {DESCRIPTORS}");
    }
    let trial = |name: &str, kind: &'static str| {
        Trial::test(format!("{}::{name}", driver_name(driver)), move || {
            in_a_process(driver, kind);
            Ok(())
        })
    };
    vec![
        trial("5000_streams_have_2_descriptors_for_each_image", "enough").with_ignored_flag(missing),
        trial("streams_without_a_descriptor_go_on_alone", "few"),
    ]
}

/// A limit holds for a whole process, so each trial has its own.
fn in_a_process(driver: DriverChoice, kind: &str) {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&["many", directory.path().to_str().unwrap(), driver_name(driver), kind]);
    println!("swept: {} {}", driver_name(driver), process.reply().unwrap());
    process.finish().unwrap();
}

/// In a child.
pub fn run(directory: &Path, driver: DriverChoice, kind: &str) {
    let (count, limit) = if kind == "few" { (FEW_STREAMS, FEW_DESCRIPTORS) } else { (STREAMS, DESCRIPTORS) };
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
    let directory = directory.join("cache");
    let options = options(driver, false).max_size(u64::MAX);
    let before = resources::descriptors();
    let cache = ImageCache::open(&directory, options).unwrap();
    let idle = resources::descriptors().len();
    let images: Vec<_> = (0..=count / 2).map(|number| Image::new(format!("image-{number}"), SIZE, number)).collect();
    let images: Vec<_> = (0..count).map(|number| &images[if number % 2 == 0 { 0 } else { number / 2 + 1 }]).collect();
    let mut streams = Vec::new();
    for image in &images {
        let mut stream = cache.stream(&image.id, image.source()).unwrap();
        stream.set_source_timeout(Duration::from_secs(5)).unwrap();
        let mut buffer = [0; 10];
        let length = stream.read(&mut buffer).unwrap();
        image.verify(0, &buffer[..length]).unwrap();
        assert_eq!(length, 10);
        streams.push((stream, *image));
    }
    let alone = streams.iter().filter(|(stream, _)| stream.role() == StreamRole::Alone).count();
    // Without a free descriptor nothing can list them.
    let most = if kind == "few" { limit } else { resources::descriptors().len() as u64 };
    if kind == "few" {
        assert!(alone > 0 && alone < count, "{alone} of {count} streams are alone");
    } else {
        assert_eq!(alone, 0);
        let of_streams = usize::try_from(most).unwrap() - idle;
        assert!(of_streams <= 2 * (count / 2 + 1) + 8, "{of_streams} descriptors of {count} streams");
    }
    for (stream, image) in &mut streams {
        read_rest(stream, image);
    }
    drop(streams);
    assert_all_can_be_cached(&directory, &cache, &images);
    drop(cache);
    assert_eq!(resources::descriptors(), before);
    println!("descriptors: {count} streams have {most}, {alone} of them are alone; the cache alone has {idle}");
}

fn read_rest(stream: &mut Stream<impl image_cache::RangeSource>, image: &Image) {
    let mut buffer = vec![0; 50_000];
    let mut position = 10;
    loop {
        let length = stream.read(&mut buffer).unwrap_or_else(|error| panic!("at {position}: {error}"));
        image.verify(position, &buffer[..length]).unwrap();
        position += length as u64;
        if length == 0 {
            break;
        }
    }
    assert_eq!(position, image.size);
}

/// No image is stuck, and a clean leaves nothing.
fn assert_all_can_be_cached(directory: &Path, cache: &ImageCache, images: &[&Image]) {
    for image in images {
        read_to_end(&mut cache.stream(&image.id, image.source()).unwrap(), image).unwrap();
        assert!(cache.is_cached(&image.id).unwrap(), "{}", image.id);
    }
    assert_eq!(check_listing(directory, cache).unwrap().len(), images.len() / 2 + 1);
    // A clean, or the close of the cache, would sync each of them.
    cache.delete_all_cached_images().unwrap();
    check_clean(directory, cache).unwrap();
    assert!(file_names(&directory.join(".image_cache/streams")).unwrap().is_empty());
}
