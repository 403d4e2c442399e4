//! What becomes of a refused image, on each way into the cache.

use std::io::Read as _;
use std::ops::ControlFlow;

use image_cache::{Algorithm, DriverChoice, Error, ImportOptions, Inspector};

use crate::builders::{Made, qcow2, raw};
use crate::common::{Scratch, files, ids, read_image};
use crate::corpus::write;

/// An image with a backing file.
pub fn unsafe_image() -> Vec<u8> {
    let mut image: Made = qcow2(3);
    image.be64(8, 600).be32(16, 11).put(600, b"/etc/passwd");
    image.0
}

pub fn refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().formats("raw,qcow2").unwrap());
    let before = cache.statistics().unwrap();
    let error = write(&cache, "image", &unsafe_image()).unwrap_err();
    assert_eq!(error.to_string(), "image 'image' is refused: it has a backing file");
    assert!(!cache.is_cached("image").unwrap() && !cache.is_being_cached("image").unwrap());
    let invalid = cache.list_invalid().unwrap();
    assert_eq!(invalid.len(), 1);
    assert_eq!(
        (invalid[0].image_id.as_str(), invalid[0].reason.as_deref()),
        ("image", Some(error.to_string().as_str()))
    );
    let after = cache.statistics().unwrap();
    assert_eq!((after.other_failures - before.other_failures, after.commits - before.commits), (1, 0));
    // The id is free for a good image.
    write(&cache, "image", &qcow2(3).0).unwrap();
    assert_eq!(read_image(&cache, "image"), qcow2(3).0);
}

pub fn tee(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().formats("raw,qcow2").unwrap());
    let image = unsafe_image();
    let mut tee = cache.tee("image", image.as_slice()).unwrap();
    let mut delivered = Vec::new();
    tee.read_to_end(&mut delivered).unwrap();
    assert_eq!(delivered, image);
    assert!(!tee.is_caching() && !cache.is_cached("image").unwrap());
    assert_eq!(files(&scratch.file("invalid")), ["image"]);
    assert!(scratch.logged("it has a backing file; the bytes were delivered without caching"));
}

pub fn imported(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().formats("raw,qcow2").unwrap());
    let source = scratch.file("../source");
    for (image, is_safe) in [(unsafe_image(), false), (qcow2(3).0, true)] {
        std::fs::write(&source, &image).unwrap();
        let file = std::fs::File::open(&source).unwrap();
        let imported = cache.import("image", &file, &ImportOptions::default(), |_, _| ControlFlow::Continue(()));
        assert_eq!(matches!(imported, Err(Error::Refused { .. })), !is_safe, "{imported:?}");
        assert_eq!(cache.is_cached("image").unwrap(), is_safe);
        assert_eq!(files(&scratch.file("invalid")), ["image"]);
    }
}

pub fn prefetch(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().formats("raw").unwrap());
    cache.queue_image("bad").unwrap();
    cache.queue_image("good").unwrap();
    let fetched =
        cache.prefetch(|id, writer| writer.write_chunk(&if id == "good" { raw().0 } else { unsafe_image() })).unwrap();
    assert_eq!((fetched.fetched, fetched.failed), (1, 1));
    assert!(cache.is_queued("bad").unwrap() && !cache.is_queued("good").unwrap());
    assert_eq!(ids(&cache), ["good"]);
}

pub fn digest_first(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let options = scratch.options.clone().formats("raw").unwrap();
    let cache = scratch.open_with(options.inspector(Inspector::new(|_, _, _| panic!("it was inspected"))));
    let mut writer = cache.begin_write("image").unwrap();
    writer.expect_digest(Algorithm::Md5, &"0".repeat(32)).unwrap();
    writer.write_chunk(&unsafe_image()).unwrap();
    assert!(matches!(writer.commit(), Err(Error::DigestMismatch { .. })));
    let mut writer = cache.begin_write("image").unwrap();
    writer.expect_size(1 << 20).unwrap();
    writer.write_chunk(&unsafe_image()).unwrap();
    assert!(matches!(writer.commit(), Err(Error::SizeMismatch { .. })));
}

pub fn off(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let set = scratch.options.clone().formats("raw").unwrap().every_format();
    for (id, options) in [("default", scratch.options.clone()), ("reset", set)] {
        write(&scratch.open_with(options), id, &unsafe_image()).unwrap();
    }
    // Those that are cached are served, and not inspected again.
    let cache = scratch.open_with(scratch.options.clone().formats("raw").unwrap());
    assert_eq!(read_image(&cache, "default"), unsafe_image());
}
