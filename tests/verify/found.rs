//! Damage that is found, by which digest, and what becomes of the image.

use std::fs::File;

use image_cache::{DriverChoice, Durability, Error, Verified};

use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};
use crate::{CRC_OF_DIGITS, MIB, all, digest, expected, flip, one, reason};

#[test]
fn each_image_has_a_digest_whichever_way_it_came() {
    for driver in DRIVERS {
        for durability in [Durability::None, Durability::Full] {
            let scratch = Scratch::new(driver);
            let cache = scratch.open_with(scratch.options.clone().durability(durability));
            cache_image(&cache, "written", b"123456789");
            cache_image(&cache, "empty", b"");
            cache.begin_write("empty, no chunk").unwrap().commit().unwrap();
            let mut tee = cache.tee("tee", &b"123456789"[..]).unwrap();
            std::io::copy(&mut tee, &mut std::io::sink()).unwrap();
            drop(tee);
            let source = |offset: u64, buffer: &mut [u8]| {
                let left = &b"123456789"[usize::try_from(offset).unwrap()..];
                let length = left.len().min(buffer.len());
                buffer[..length].copy_from_slice(&left[..length]);
                Ok(length)
            };
            let mut stream = cache.stream("stream", source).unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            drop(stream);
            cache.queue_image("prefetched").unwrap();
            cache.prefetch(|_, writer| writer.write_chunk(b"123456789")).unwrap();
            let mut writer = cache.begin_write("expected").unwrap();
            expected(CRC_OF_DIGITS)(&mut writer);
            writer.write_chunk(b"123456789").unwrap();
            writer.commit().unwrap();

            for id in ["written", "tee", "stream", "prefetched", "expected"] {
                assert_eq!(digest(&cache, id).as_deref(), Some(CRC_OF_DIGITS), "{id} {driver:?}");
                let on_file = xattr::get(scratch.file(id), "user.image_cache.digest").unwrap();
                assert_eq!(
                    on_file,
                    Some(format!("{} 9", CRC_OF_DIGITS.replace("crc64nvme", "crc")).into_bytes()),
                    "{id}"
                );
            }
            for id in ["empty", "empty, no chunk"] {
                assert_eq!(digest(&cache, id).as_deref(), Some("crc64nvme:0000000000000000"), "{id}");
            }
            assert_eq!(all(&cache), Verified { verified: 7, bytes_read: 45, ..Verified::default() });
        }
    }
}

#[test]
fn a_writer_with_a_wrong_crc_fails() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    expected(CRC_OF_DIGITS)(&mut writer);
    writer.write_chunk(b"12345678X").unwrap();
    assert!(matches!(writer.commit(), Err(Error::DigestMismatch { algorithm: "crc64nvme", .. })));
}

/// A flipped byte, whatever the digest, the place and the mtime: also where the length has not changed.
#[test]
fn a_flipped_byte_is_found_and_its_image_goes_to_invalid_with_both_digests() {
    for driver in DRIVERS {
        for size in [1, 4097, 5 * MIB + 17] {
            let content = vec![7_u8; size];
            let scratch = Scratch::new(driver);
            let cache = scratch.open();
            cache_image(&cache, "good", &content);
            cache_image(&cache, "bad", &content);
            cache_image(&cache, "restored mtime", &content);
            let crc = digest(&cache, "bad").unwrap();
            let modified = scratch.file("restored mtime").metadata().unwrap().modified().unwrap();
            for id in ["bad", "restored mtime"] {
                flip(&scratch.file(id), size as u64 - 1);
            }
            let file = File::options().write(true).open(scratch.file("restored mtime")).unwrap();
            file.set_modified(modified).unwrap();
            let mut reader = cache.open_for_read("bad").unwrap();

            let result = all(&cache);
            assert_eq!((result.verified, result.failed, result.stopped), (1, 2, false), "{driver:?} {size}");
            assert_eq!(ids(&cache), ["good"]);
            for id in ["bad", "restored mtime"] {
                let reason = reason(&cache, id);
                let (_, hex) = crc.split_once(':').unwrap();
                assert!(reason.contains(hex) && reason.matches("crc64nvme").count() == 1, "{reason}");
                assert!(matches!(cache.open_for_read(id), Err(Error::NotFound { .. })));
            }
            // Its reader goes on.
            let mut read = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
            assert_eq!(read.len(), size);
            cache_image(&cache, "bad", &content);
            assert_eq!(read_image(&cache, "bad"), content);
        }
    }
}

#[test]
fn the_pins_of_a_damaged_image_end_and_the_log_names_their_holders() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["bad", "pinned", "good"] {
            cache_image(&cache, id, &[7; 100]);
        }
        for id in ["pinned", "good"] {
            cache.pin(id, "boot set", None).unwrap();
        }
        for id in ["bad", "pinned"] {
            flip(&scratch.file(id), 0);
        }
        assert_eq!(all(&cache).failed, 2, "{driver:?}");
        assert!(scratch.logged("image 'pinned' was pinned, and is no longer: 'boot set'"), "{driver:?}");
        assert!(!scratch.logged("image 'bad' was pinned") && !scratch.logged("image 'good' was pinned"), "{driver:?}");
        cache_image(&cache, "pinned", &[7; 100]);
        assert_eq!((cache.pins("pinned").unwrap().len(), cache.pins("good").unwrap().len()), (0, 1), "{driver:?}");
    }
}

#[test]
fn an_expected_digest_is_what_is_verified() {
    const SHA256: &str = "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    const MD5: &str = "md5:25f9e794323b453885f5181f1b624d0b";
    for driver in DRIVERS {
        for known in [SHA256, MD5] {
            let scratch = Scratch::new(driver);
            let cache = scratch.open();
            let mut writer = cache.begin_write("1").unwrap();
            expected(known)(&mut writer);
            writer.write_chunk(b"123456789").unwrap();
            writer.commit().unwrap();
            assert_eq!(one(&cache, "1").unwrap().verified, 1);
            flip(&scratch.file("1"), 3);
            assert_eq!(one(&cache, "1").unwrap().failed, 1);
            assert!(reason(&cache, "1").contains(known.split_once(':').unwrap().1));
        }
    }
}

#[test]
fn an_image_without_a_digest_gets_one_for_the_next_verification() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        std::fs::write(scratch.file("1"), b"123456789").unwrap();
        assert_eq!(all(&cache), Verified { without_digest: 1, bytes_read: 9, ..Verified::default() });
        // It is none of a commit.
        assert_eq!(digest(&cache, "1"), None);
        assert_eq!(all(&cache), Verified { verified: 1, bytes_read: 9, ..Verified::default() });
        flip(&scratch.file("1"), 0);
        assert_eq!(all(&cache).failed, 1);
        assert!(reason(&cache, "1").contains("ae8b14860a799888"));
    }
}

/// A handle of a former version of this library, or a copy without attributes.
#[test]
fn a_digest_that_only_the_index_has_is_verified() {
    const SHA256: &str = "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    expected(SHA256)(&mut writer);
    writer.write_chunk(b"123456789").unwrap();
    writer.commit().unwrap();
    xattr::remove(scratch.file("1"), "user.image_cache.digest").unwrap();
    assert_eq!(one(&cache, "1").unwrap().verified, 1);
    let modified = scratch.file("1").metadata().unwrap().modified().unwrap();
    flip(&scratch.file("1"), 1);
    File::options().write(true).open(scratch.file("1")).unwrap().set_modified(modified).unwrap();
    assert_eq!(one(&cache, "1").unwrap().failed, 1);
}
