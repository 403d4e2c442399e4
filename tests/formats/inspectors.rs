//! What the caller's inspector gets, may do, and how it fails.

use std::io::{Read as _, Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use image_cache::{DriverChoice, Error, ImageCache, Inspector};

use crate::common::{Scratch, files, ids, read_image};
use crate::corpus::write;
use crate::publishing::unsafe_image;

pub fn descriptor(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let directory = scratch.path();
    let inspector = Inspector::new(move |id, mut file, length| {
        assert_eq!((id, length), ("image", 7));
        assert!(!directory.join("image").exists() && directory.join("incomplete/image").exists());
        assert_eq!(file.stream_position().unwrap(), 0);
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"content");
        file.write_all(b"changed").expect_err("it is open for writing");
        file.set_len(0).expect_err("it is open for writing");
        Err("seen".to_owned())
    });
    let cache = scratch.open_with(scratch.options.clone().inspector(inspector));
    assert!(matches!(write(&cache, "image", b"content"), Err(Error::Refused { why, .. }) if why == "seen"));
    assert_eq!(cache.list_invalid().unwrap()[0].reason.as_deref(), Some("image 'image' is refused: seen"));
}

pub fn calls(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let own: Arc<OnceLock<Weak<ImageCache>>> = Arc::default();
    let within = Arc::clone(&own);
    let inspector = Inspector::new(move |id, _, _| {
        if id != "image" {
            return Ok(());
        }
        let cache = within.get().unwrap().upgrade().unwrap();
        write(&cache, "another", b"content").unwrap();
        assert_eq!(read_image(&cache, "another"), b"content");
        assert!(matches!(cache.begin_write("image"), Err(Error::BeingCached(_))));
        assert!(cache.is_being_cached("image").unwrap() && cache.list_incomplete().unwrap().len() == 1);
        cache.clean(None).unwrap();
        cache.delete_cached_image("old").unwrap();
        let pruned = cache.prune_to(0).unwrap();
        assert_eq!(pruned.images, 1);
        Ok(())
    });
    write(&scratch.open(), "old", b"content").unwrap();
    let cache = Arc::new(scratch.open_with(scratch.options.clone().inspector(inspector)));
    own.set(Arc::downgrade(&cache)).unwrap();
    write(&cache, "image", b"content").unwrap();
    assert_eq!(ids(&cache), ["image"]);
}

pub fn slow(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let options = scratch.options.clone().stall_time(Duration::ZERO);
    let other = scratch.open_with(options.clone());
    // The shortest stall time is 2 s. It cannot be simulated: it is measured without the host's clock.
    let inspector = Inspector::new(move |_, _, _| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            assert!(matches!(other.begin_write("image"), Err(Error::BeingCached(_))));
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    write(&scratch.open_with(options.inspector(inspector)), "image", b"content").unwrap();
}

pub fn panics(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().inspector(Inspector::new(|_, _, _| panic!("on purpose"))));
    let committed = catch_unwind(AssertUnwindSafe(|| write(&cache, "image", b"content")));
    assert!(committed.is_err());
    assert!(!cache.is_cached("image").unwrap());
    assert_eq!(files(&scratch.file("invalid")), ["image"]);
    // Its writer has ended, and no lock was left.
    write(&scratch.open(), "image", b"content").unwrap();
}

pub fn order(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let options = scratch.options.clone().formats("raw,qcow2").unwrap();
    let inspector = Inspector::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let cache = scratch.open_with(options.inspector(inspector));
    write(&cache, "bad", &unsafe_image()).unwrap_err();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    write(&cache, "good", b"content").unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

pub fn removed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let path = scratch.file("incomplete/image");
    let inspector = Inspector::new(move |_, _, _| std::fs::remove_file(&path).map_err(|error| error.to_string()));
    let cache = scratch.open_with(scratch.options.clone().inspector(inspector));
    assert!(matches!(write(&cache, "image", b"content"), Err(Error::Lost { .. })));
    assert!(ids(&cache).is_empty());
}
