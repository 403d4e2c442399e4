//! Inspections of images that streams share. Several handles stand for several processes: they share nothing but the directory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_cache::{Algorithm, DriverChoice, Error, ImageCache, Inspector, Result, Stream};

use crate::builders::qcow2;
use crate::common::{Scratch, files, read_image};
use crate::publishing::unsafe_image;

type Source = Box<dyn FnMut(u64, &mut [u8]) -> std::io::Result<usize> + Send>;

fn stream(cache: &ImageCache, image: Vec<u8>) -> Stream<Source> {
    let source: Source = Box::new(move |offset, buffer| {
        let rest = image.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    });
    cache.stream("image", source).unwrap()
}

fn read(stream: &mut Stream<Source>) -> Result<Vec<u8>> {
    let (mut delivered, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(delivered),
            length => delivered.extend_from_slice(&buffer[..length]),
        }
    }
}

pub fn refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let options = scratch.options.clone().formats("raw,qcow2").unwrap();
    let (cache, other) = (scratch.open_with(options.clone()), scratch.open_with(options));
    let (mut one, mut follower) = (stream(&cache, unsafe_image()), stream(&other, unsafe_image()));
    assert_eq!(one.read(&mut [0; 100]).unwrap(), 100);
    assert_eq!(read(&mut follower).unwrap(), unsafe_image());
    assert_eq!(read(&mut one).unwrap(), unsafe_image()[100..]);
    drop((one, follower));
    assert!(!cache.is_cached("image").unwrap() && !cache.is_being_cached("image").unwrap());
    assert_eq!(files(&scratch.file("invalid")), ["image"]);
    let reason = cache.list_invalid().unwrap()[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("image 'image' is refused: it has a backing file"));
    // A good image of that id can be streamed and cached.
    assert_eq!(read(&mut stream(&cache, qcow2(3).0)).unwrap(), qcow2(3).0);
    assert!(cache.is_cached("image").unwrap());
}

pub fn followed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let options = scratch.options.clone().formats("raw,qcow2").unwrap();
    let (cache, other) = (scratch.open_with(options.clone()), scratch.open_with(options));
    let image = unsafe_image();
    let mut writer = cache.begin_write("image").unwrap();
    writer.write_chunk(&image[..1000]).unwrap();
    let mut stream = stream(&other, image.clone());
    assert_eq!(stream.read(&mut [0; 1000]).unwrap(), 1000);
    writer.write_chunk(&image[1000..]).unwrap();
    assert!(matches!(writer.commit(), Err(Error::Refused { .. })));
    assert_eq!(read(&mut stream).unwrap(), image[1000..]);
    drop(stream);
    assert!(!cache.is_cached("image").unwrap() && !cache.is_being_cached("image").unwrap());
}

pub fn once(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let inspector = Inspector::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let options = scratch.options.clone().inspector(inspector);
    let caches = [scratch.open_with(options.clone()), scratch.open_with(options)];
    let streams: Vec<_> = (0..8).map(|place| stream(&caches[place % 2], qcow2(3).0)).collect();
    std::thread::scope(|scope| {
        for mut stream in streams {
            scope.spawn(move || assert_eq!(read(&mut stream).unwrap(), qcow2(3).0));
        }
    });
    assert!(caches[0].is_cached("image").unwrap());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// An inspector that says when it is called, and waits until it is told to return.
fn waiting(verdict: std::result::Result<(), String>) -> (Inspector, Receiver<()>, Sender<()>) {
    let (entered, called) = channel();
    let (go_on, told) = channel();
    let ends = Mutex::new((entered, told));
    let inspector = Inspector::new(move |_, _, _| {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        // Bounded, so that a test that fails ends.
        let _ = ends.1.recv_timeout(Duration::from_secs(60));
        verdict.clone()
    });
    (inspector, called, go_on)
}

pub fn slow(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (inspector, called, go_on) = waiting(Ok(()));
    let options = scratch.options.clone().inspector(inspector);
    let (cache, other) = (scratch.open_with(options.clone()), scratch.open_with(options));
    std::thread::scope(|scope| {
        let mut first = stream(&cache, qcow2(3).0);
        let first = scope.spawn(move || read(&mut first));
        called.recv().unwrap();
        for cache in [&cache, &other] {
            let mut second = stream(cache, qcow2(3).0);
            second.set_source_timeout(Duration::from_secs(1)).unwrap();
            assert_eq!(read(&mut second).unwrap(), qcow2(3).0);
        }
        assert!(!cache.is_cached("image").unwrap());
        go_on.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), qcow2(3).0);
    });
    assert!(cache.is_cached("image").unwrap());
}

pub fn mixed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (inspector, called, go_on) = waiting(Err("it is not mine".to_owned()));
    let (cache, other) = (scratch.open_with(scratch.options.clone().inspector(inspector)), scratch.open());
    std::thread::scope(|scope| {
        let mut first = stream(&cache, qcow2(3).0);
        let first = scope.spawn(move || read(&mut first));
        called.recv().unwrap();
        assert_eq!(read(&mut stream(&other, qcow2(3).0)).unwrap(), qcow2(3).0);
        assert_eq!(read_image(&other, "image"), qcow2(3).0);
        go_on.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), qcow2(3).0);
    });
    assert!(cache.is_cached("image").unwrap());
    assert!(files(&scratch.file("invalid")).is_empty());
}

pub fn expected_meanwhile(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (inspector, called, go_on) = waiting(Ok(()));
    let (cache, other) = (scratch.open_with(scratch.options.clone().inspector(inspector)), scratch.open());
    std::thread::scope(|scope| {
        let mut first = stream(&cache, qcow2(3).0);
        let first = scope.spawn(move || read(&mut first));
        called.recv().unwrap();
        // It takes part, and waits with its end.
        let mut second = stream(&other, qcow2(3).0);
        second.expect_digest(Algorithm::Md5, &"0".repeat(32)).unwrap();
        assert_eq!(second.read(&mut [0; 100]).unwrap(), 100);
        go_on.send(()).unwrap();
        assert!(matches!(first.join().unwrap(), Err(Error::DigestMismatch { .. })));
        assert!(matches!(read(&mut second), Err(Error::DigestMismatch { .. })));
    });
    assert!(!cache.is_cached("image").unwrap());
}
