//! Writers: one per image, and the states of its file.

mod common;

use std::time::{Duration, Instant};

use common::{DRIVERS, Scratch, age, cache_image, files, leave_by_dead_writer, read_image};
use image_cache::{Algorithm, Durability, Error, Options};

/// The `f_type` of tmpfs (`TMPFS_MAGIC`).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        let mut writer = cache.begin_write("1").unwrap();
        writer.write_chunk(b"first").unwrap();
        assert!(matches!(cache.begin_write("1"), Err(Error::BeingCached(_))));
        assert!(matches!(other.begin_write("1"), Err(Error::BeingCached(_))));
        writer.write_chunk(b" and whole").unwrap();
        writer.commit().unwrap();
        assert!(matches!(other.begin_write("1"), Err(Error::AlreadyCached(_))));
        assert_eq!(read_image(&other, "1"), b"first and whole");
    }
}

#[test]
fn an_unlocked_incomplete_file_of_a_dead_writer_is_replaced() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        leave_by_dead_writer(&scratch.file("incomplete/1"), b"left by a crash");
        assert!(cache.is_being_cached("1").unwrap());
        cache_image(&cache, "1", b"new");
        assert_eq!(read_image(&cache, "1"), b"new");
        assert!(scratch.logged("dead writer"));
    }
}

#[test]
fn a_writer_that_stalled_loses_its_image_to_the_next_one() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        // The shortest stall time is 2 s. It cannot be simulated: it is measured without the host's clock.
        let cache = scratch.open_with(scratch.options.clone().stall_time(Duration::ZERO));
        let mut stalled = cache.begin_write("1").unwrap();
        stalled.write_chunk(b"slow").unwrap();
        let began = Instant::now();
        while let Err(error) = cache.begin_write("1").map(|writer| writer.abort("found that the other one stalled")) {
            assert!(matches!(error, Error::BeingCached(_)) && began.elapsed() < Duration::from_secs(60), "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(began.elapsed() >= Duration::from_millis(1900));
        cache_image(&cache, "1", b"fast");
        assert!(matches!(stalled.write_chunk(b"er"), Err(Error::Lost { .. })));
        assert!(matches!(stalled.commit(), Err(Error::Lost { .. })));
        assert_eq!(read_image(&cache, "1"), b"fast");
        assert_eq!(files(&scratch.file("invalid")), ["1"]);
    }
}

#[test]
fn a_live_writer_does_not_stall_because_of_the_times_of_its_file() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        let mut writer = cache.begin_write("1").unwrap();
        writer.write_chunk(b"steady").unwrap();
        age(&scratch.file("incomplete/1"), Duration::from_secs(25 * 60 * 60));
        let error = other.begin_write("1").map(drop).unwrap_err().to_string();
        let process = std::process::id();
        assert!(error.contains(&format!("process {process}")) && error.contains(" s now"), "{error}");
        assert_eq!(other.clean(None).unwrap(), 0);
        writer.commit().unwrap();
        assert_eq!(read_image(&other, "1"), b"steady");
    }
}

#[test]
fn a_file_of_another_program_counts_as_a_live_writers_until_it_stalls() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        std::fs::write(scratch.file("incomplete/1"), b"Glance's").unwrap();
        assert!(!cache.queue_image("1").unwrap());
        assert!(matches!(cache.begin_write("1"), Err(Error::BeingCached(_))));
        assert_eq!(cache.clean(None).unwrap(), 0);
        age(&scratch.file("incomplete/1"), Duration::from_secs(25 * 60 * 60));
        cache_image(&cache, "1", b"ours");
        assert_eq!(read_image(&cache, "1"), b"ours");
    }
}

#[test]
fn an_image_has_the_mode_of_other_files_of_the_process() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        cache_image(&scratch.open(), "1", b"data");
        let mode = |name| {
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(scratch.file(name)).unwrap().permissions())
        };
        std::fs::write(scratch.file("other"), b"").unwrap();
        assert_eq!(mode("1"), mode("other"));
        assert_eq!(mode(".image_cache/lock") & 0o077 & !0o060, 0);
    }
}

#[test]
fn a_stall_time_of_zero_takes_no_image_from_a_live_writer() {
    let scratch = Scratch::new(DRIVERS[0]);
    let cache = scratch.open_with(scratch.options.clone().stall_time(Duration::ZERO));
    let _writer = cache.begin_write("1").unwrap();
    assert!(matches!(cache.begin_write("1"), Err(Error::BeingCached(_))));
}

#[test]
fn a_writer_whose_file_was_cleaned_away_gets_lost_and_the_image_can_be_cached() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let mut writer = cache.begin_write("1").unwrap();
        writer.write_chunk(b"part").unwrap();
        assert_eq!(cache.clean(Some(Duration::ZERO)).unwrap(), 1);
        let successor = cache.begin_write("1").unwrap();
        // The commit must not move its successor's file.
        assert!(matches!(writer.commit(), Err(Error::Lost { .. })));
        assert!(cache.is_being_cached("1").unwrap());
        successor.commit().unwrap();
        assert_eq!(cache.image_size("1").unwrap(), 0);
    }
}

#[test]
fn a_file_that_another_program_truncated_is_not_published() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let mut writer = cache.begin_write("1").unwrap();
        writer.write_chunk(b"0123456789").unwrap();
        // Glance's own writer truncates the file when it opens it.
        std::fs::File::create(scratch.file("incomplete/1")).unwrap();
        assert!(matches!(writer.write_chunk(b"more"), Err(Error::Lost { .. })));
        assert!(matches!(writer.commit(), Err(Error::Lost { .. })));
        assert!(!cache.is_cached("1").unwrap());

        let mut writer = cache.begin_write("2").unwrap();
        writer.write_chunk(b"0123456789").unwrap();
        std::fs::File::create(scratch.file("incomplete/2")).unwrap();
        assert!(matches!(writer.commit(), Err(Error::Lost { .. })));
        assert!(!cache.is_cached("2").unwrap());
    }
}

#[test]
fn a_dropped_writer_leaves_its_file_in_invalid() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        drop(cache.begin_write("1").unwrap());
        assert!(!cache.is_being_cached("1").unwrap());
        assert_eq!(files(&scratch.file("invalid")), ["1"]);
        cache_image(&cache, "1", b"again");
    }
}

#[test]
fn a_file_under_the_final_name_is_never_replaced() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let mut writer = cache.begin_write("1").unwrap();
        writer.write_chunk(b"mine").unwrap();
        std::fs::write(scratch.file("1"), b"another program's").unwrap();
        assert!(matches!(writer.commit(), Err(Error::AlreadyCached(_))));
        assert_eq!(read_image(&cache, "1"), b"another program's");
        assert_eq!(cache.cache_size().unwrap(), 17);
    }
}

#[test]
fn a_directory_under_the_final_name_is_not_a_cached_image() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let writer = cache.begin_write("1").unwrap();
        std::fs::create_dir(scratch.file("1")).unwrap();
        assert!(matches!(writer.commit(), Err(Error::System { .. })));
        assert!(!cache.is_cacheable("1").unwrap());
        std::fs::create_dir(scratch.file("queue/2")).unwrap();
        assert!(!cache.queue_image("2").unwrap());
    }
}

#[test]
fn a_reader_does_not_see_bytes_appended_after_its_open() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"12345");
        let reader = cache.open_for_read("1").unwrap();
        std::fs::write(scratch.file("1"), b"12345 and more").unwrap();
        assert_eq!(reader.read_at(0, &mut [0; 100]).unwrap(), 5);
    }
}

#[test]
fn every_expected_digest_is_checked_and_the_strongest_is_kept() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut writer = cache.begin_write("abc").unwrap();
        writer.expect_size(3).unwrap();
        writer.expect_digest(Algorithm::Sha256, &sha256.to_uppercase()).unwrap();
        writer.expect_digest(Algorithm::Md5, md5).unwrap();
        writer.write_chunk(b"a").unwrap();
        writer.write_chunk(b"bc").unwrap();
        writer.commit().unwrap();
        assert_eq!(
            cache.list_cached().unwrap().next().unwrap().digest.as_deref(),
            Some(format!("sha256:{sha256}").as_str())
        );

        let mut writer = cache.begin_write("2").unwrap();
        writer.expect_digest(Algorithm::Sha256, sha256).unwrap();
        writer.expect_digest(Algorithm::Md5, &md5.replace('9', "8")).unwrap();
        writer.write_chunk(b"abc").unwrap();
        assert!(matches!(writer.commit(), Err(Error::DigestMismatch { algorithm: "md5", .. })));
        assert!(!cache.is_cached("2").unwrap());
    }
}

#[test]
fn the_reason_of_a_failure_is_kept_with_the_invalid_file() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache.begin_write("1").unwrap().abort("the network failed");
        let reason = xattr::get(scratch.file("invalid/1"), "user.error").unwrap().unwrap();
        assert_eq!(reason, b"the network failed");
    }
}

#[test]
fn the_database_may_have_another_name() {
    let scratch = Scratch::new(DRIVERS[0]);
    let cache = scratch.open_with(Options::new().database("index.sqlite").unwrap());
    cache_image(&cache, "1", b"x");
    for id in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite-journal", "cache.db"] {
        assert!(matches!(cache.begin_write(id), Err(Error::InvalidImageId { .. })), "{id}");
    }
    assert!(scratch.file("index.sqlite").exists());
    assert!(!scratch.file("cache.db").exists());
}

#[test]
fn a_second_digest_of_one_algorithm_must_be_the_same() {
    let scratch = Scratch::new(DRIVERS[0]);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    let (one, other) = ("d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427f");
    writer.expect_digest(Algorithm::Md5, one).unwrap();
    writer.expect_digest(Algorithm::Md5, &one.to_uppercase()).unwrap();
    assert!(matches!(writer.expect_digest(Algorithm::Md5, other), Err(Error::InvalidArgument(_))));
    writer.commit().unwrap();
}

#[test]
fn a_reason_cannot_write_lines_of_its_own_into_the_log() {
    let scratch = Scratch::new(DRIVERS[0]);
    scratch.open().begin_write("1").unwrap().abort("gone\nERROR the disk is on fire\u{1b}[31m");
    assert!(scratch.logged("gone\\nERROR the disk is on fire\\u{1b}[31m"));
    assert!(!scratch.messages.lock().unwrap().iter().any(|message| message.contains(char::is_control)));
}

/// Random bytes, the same in each run.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn sha256_of(data: &[u8]) -> String {
    use sha2::Digest as _;
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap());
    sha2::Sha256::digest(data).iter().flat_map(digits).collect()
}

/// How many of a file's bytes are in the page cache.
fn in_page_cache(file: &std::path::Path) -> Option<u64> {
    let arguments = ["--bytes", "--noheadings", "--output", "RES"];
    // fincore is part of util-linux. Without it the test only compares the bytes.
    let output = std::process::Command::new("fincore").args(arguments).arg(file).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

#[test]
fn a_streamed_image_is_whole_and_leaves_the_page_cache() {
    let data = random_bytes(64 << 20);
    for durability in [Durability::Full, Durability::None] {
        let scratch = Scratch::new(DRIVERS[0]);
        let cache = scratch.open_with(scratch.options.clone().durability(durability).streaming(true));
        let mut writer = cache.begin_write("1").unwrap();
        writer.expect_digest(Algorithm::Sha256, &sha256_of(&data)).unwrap();
        // The chunks do not end at the writeback windows.
        data.chunks(3_000_001).for_each(|chunk| writer.write_chunk(chunk).unwrap());
        // tmpfs keeps files in the page cache only.
        let is_on_a_disk = rustix::fs::statfs(scratch.path()).unwrap().f_type != TMPFS;
        if let Some(bytes) = in_page_cache(&scratch.file("incomplete/1")).filter(|_| is_on_a_disk) {
            assert!(bytes <= 32 << 20, "{bytes} bytes of it are in the page cache while it is written");
        }
        writer.commit().unwrap();
        if let Some(bytes) = in_page_cache(&scratch.file("1")).filter(|_| is_on_a_disk) {
            assert!(bytes <= 1 << 20, "{bytes} bytes of it are in the page cache");
        }
        assert!(read_image(&cache, "1") == data);
    }
}

#[test]
fn a_long_image_with_a_wrong_digest_is_not_published_by_a_writer_or_a_tee() {
    let scratch = Scratch::new(DRIVERS[0]);
    let cache = scratch.open();
    let data = random_bytes((6 << 20) + 1);
    let wrong = sha256_of(&data[1..]);
    let mut writer = cache.begin_write("1").unwrap();
    writer.expect_digest(Algorithm::Sha256, &wrong).unwrap();
    writer.write_chunk(&data).unwrap();
    assert!(matches!(writer.commit(), Err(Error::DigestMismatch { .. })));
    assert!(!cache.is_cached("1").unwrap());

    let mut tee = cache.tee("1", data.as_slice()).unwrap();
    tee.expect_digest(Algorithm::Sha256, &wrong).unwrap();
    let mut buffer = vec![0; 100_000];
    while let Ok(1..) = tee.read(&mut buffer) {}
    assert!(matches!(tee.read(&mut buffer), Err(Error::DigestMismatch { .. })));
    drop(tee);
    assert!(!cache.is_cached("1").unwrap());

    let right = sha256_of(&data);
    let mut tee = cache.tee("1", data.as_slice()).unwrap();
    tee.expect_digest(Algorithm::Sha256, &right).unwrap();
    // The tee gives up caching, and still checks the bytes that it delivers.
    tee.give_up("enough").unwrap();
    assert_eq!(std::io::copy(&mut tee, &mut std::io::sink()).unwrap(), data.len() as u64);
    assert!(!cache.is_cached("1").unwrap());
}
