//! Every operation on a cache, as a list, for trials that do something before or after each.

use std::ffi::{c_char, c_void};
use std::fs::File;
use std::path::Path;
use std::sync::LazyLock;

use image_cache::ffi::writer::{image_cache_write_chunk, image_cache_writer_t};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::c::{Cache, Driver, Failure, Outcome, Settings, status_of};

/// An image that the operations read and keep.
pub const KEPT: &str = "kept";

/// Performs one operation, and returns the status of its last call.
pub type Operation = fn(&Cache) -> i32;

pub const ALL: &[(&str, Operation)] = &[
    ("is_cached", |cache| status_of(&cache.is_cached(KEPT))),
    ("is_being_cached", |cache| status_of(&cache.is_being_cached(KEPT))),
    ("is_queued", |cache| status_of(&cache.is_queued(KEPT))),
    ("is_cacheable", |cache| status_of(&cache.is_cacheable(KEPT))),
    ("get_image_size", |cache| status_of(&cache.image_size(KEPT))),
    ("open, read, close", |cache| {
        status_of(&cache.open_for_read(KEPT).and_then(|mut reader| reader.each_piece(|_| {})))
    }),
    ("export", |cache| FILES.as_ref().map_or(0, |(target, _)| status_of(&cache.export(KEPT, target)))),
    ("get_hit_count", |cache| status_of(&cache.hit_count(KEPT))),
    ("get_cache_size", |cache| status_of(&cache.size())),
    ("list_cached", |cache| status_of(&cache.count_cached())),
    ("queue_image", |cache| status_of(&cache.queue("queued"))),
    ("list_queued", |cache| status_of(&cache.list_queued())),
    ("get_image", |cache| status_of(&cache.get_image(KEPT))),
    ("list_incomplete, list_invalid", |cache| status_of(&cache.list_incomplete().and_then(|_| cache.list_invalid()))),
    ("delete_queued_image", |cache| status_of(&cache.dequeue("queued"))),
    ("write, commit", |cache| status_of(&cache.write("written", &[1; 5000]))),
    ("write with digests, commit", |cache| status_of(&write_sevens(cache))),
    ("write, abort", |cache| status_of(&write_and_abort(cache))),
    ("tee", |cache| status_of(&cache.tee("teed", &mut &[2; 100_000][..]).and_then(|mut tee| tee.each_piece(|_| {})))),
    ("tee, close early", |cache| {
        status_of(&cache.tee("half", &mut &[2; 100_000][..]).and_then(|mut tee| tee.read(&mut [0; 100])))
    }),
    ("import", |cache| FILES.as_ref().map_or(0, |(_, source)| status_of(&cache.import("imported", source)))),
    ("queue_image, prefetch", |cache| status_of(&cache.queue("fetched").and_then(|_| cache.prefetch(Some(fetch))))),
    ("delete_cached_image", |cache| {
        ["written", "hashed", "teed", "imported", "fetched"]
            .map(|id| status_of(&cache.delete(id)))
            .into_iter()
            .fold(0, i32::min)
    }),
    ("delete_unused_image", |cache| status_of(&cache.delete_unused("written"))),
    ("delete_all_queued_images", |cache| status_of(&cache.dequeue_all())),
    ("prune", |cache| status_of(&cache.prune())),
    ("make_room", |cache| status_of(&cache.make_room(0))),
    ("pin, unpin", |cache| status_of(&cache.pin(KEPT, 60).and_then(|()| cache.unpin(KEPT)))),
    ("get_statistics", |cache| status_of(&cache.statistics())),
    ("verify", |cache| status_of(&cache.verify())),
    ("clean", |cache| status_of(&cache.clean(-1))),
];

/// The bytes of [`KEPT`].
pub fn kept_bytes() -> Vec<u8> {
    (0..100_000_u32).map(|number| (number / 3).to_le_bytes()[0]).collect()
}

/// Opens a cache, and writes what the operations read.
pub fn open(directory: &Path, driver: Driver) -> Outcome<Cache> {
    LazyLock::force(&DIGESTS_OF_SEVENS);
    LazyLock::force(&FILES);
    let cache = Cache::open(directory, Settings::new(driver).durable())?;
    if !cache.is_cached(KEPT)? {
        cache.write(KEPT, &kept_bytes())?;
    }
    Ok(cache)
}

/// A file to export to, and one to import. They are opened beforehand: an open is a cancellation point, and may get a free standard
/// descriptor.
static FILES: LazyLock<Option<(File, File)>> = LazyLock::new(|| {
    let new = || {
        let file = tempfile::tempfile_in("/dev/shm").ok()?;
        file.set_len(5000).ok()?;
        rustix::io::fcntl_dupfd_cloexec(&file, 3).ok().map(File::from)
    };
    new().zip(new())
});

/// Opens them now.
pub fn open_files() {
    LazyLock::force(&FILES);
}

/// A long image, and its digests, which are computed when there is memory.
static SEVENS: &[u8] = &[7; 6 << 20];
static DIGESTS_OF_SEVENS: LazyLock<[String; 2]> = LazyLock::new(|| [md5(SEVENS), hex(&Sha256::digest(SEVENS))]);

fn write_sevens(cache: &Cache) -> Outcome<()> {
    let mut writer = cache.begin_write("hashed")?;
    let [md5, sha256] = &*DIGESTS_OF_SEVENS;
    writer.expect_digest("md5", md5)?;
    writer.expect_digest("sha256", sha256)?;
    for chunk in SEVENS.chunks(1 << 20) {
        writer.write_chunk(chunk)?;
    }
    writer.commit()
}

/// Writes an image whose MD5 is expected.
pub fn write_with_md5(cache: &Cache, id: &str, data: &[u8]) -> Outcome<()> {
    let mut writer = cache.begin_write(id)?;
    writer.expect_digest("md5", &md5(data))?;
    data.chunks(1 << 20).try_for_each(|chunk| writer.write_chunk(chunk))?;
    writer.commit()
}

pub fn md5(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

fn write_and_abort(cache: &Cache) -> Outcome<()> {
    let mut writer = cache.begin_write("aborted")?;
    writer.write_chunk(b"12345")?;
    writer.abort("for a test");
    Ok(())
}

unsafe extern "C" fn fetch(_: *mut c_void, _: *const c_char, writer: *mut image_cache_writer_t) -> i32 {
    // SAFETY: the writer is lent, and the bytes live until the call returns.
    unsafe { image_cache_write_chunk(writer, b"12345".as_ptr().cast(), 5, std::ptr::null_mut()) }
}

/// Whether a reader gets all bytes of [`KEPT`].
pub fn check_kept(cache: &Cache) -> Result<(), String> {
    let failed = |failure: Failure| failure.to_string();
    if !cache.is_cached(KEPT).map_err(failed)? {
        return Err("is_cached: false".to_owned());
    }
    if cache.image_size(KEPT).map_err(failed)? != kept_bytes().len() as u64 {
        return Err("the size is wrong".to_owned());
    }
    let bytes = cache.read(KEPT).map_err(failed)?;
    if bytes == kept_bytes() { Ok(()) } else { Err("the bytes are wrong".to_owned()) }
}
