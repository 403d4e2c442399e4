//! Operations on a cache: open, close, queries, listings, the queue, deletes, prune and clean.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image_cache::{
    CachedImage, DriverChoice, DriverKind, Durability, Error, ImageCache, LimitMode, Log, Options, Pruned, Statistics,
    Usage, Verified, VerifyOptions,
};

use super::words::{escape, list, number, text};
use super::{Handle, OpenCache, OperationResult, Output, Scenario, Stop, disk};

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    let outcome = match (name, arguments) {
        ("open", [name, options @ ..]) => open(scenario, name, options),
        ("use", [name]) => select(scenario, name),
        ("close", [name]) => close(scenario, name),
        ("has_logged", []) => {
            scenario.selected_handle().map(|handle| yes_or_no(Ok(handle.log_messages.load(Ordering::Relaxed) > 0)))
        }
        _ => return scenario.cache().and_then(|cache| operate_on(cache, name, arguments)).transpose(),
    };
    Some(outcome)
}

/// `None` where there is no such operation.
fn operate_on(cache: &ImageCache, name: &str, arguments: &[&[u8]]) -> Result<Option<Output>, Stop> {
    Ok(Some(match (name, arguments) {
        ("get_driver", []) => Output::ok(match cache.driver() {
            DriverKind::Sqlite => "sqlite",
            DriverKind::Xattr => "xattr",
        }),
        ("is_cached", [id]) => yes_or_no(with_image_id(id, |id| cache.is_cached(id))),
        ("is_being_cached", [id]) => yes_or_no(with_image_id(id, |id| cache.is_being_cached(id))),
        ("is_queued", [id]) => yes_or_no(with_image_id(id, |id| cache.is_queued(id))),
        ("is_cacheable", [id]) => yes_or_no(with_image_id(id, |id| cache.is_cacheable(id))),
        ("queue_image", [id]) => yes_or_no(with_image_id(id, |id| cache.queue_image(id))),
        ("get_cache_size", []) => Output::of(cache.cache_size(), |bytes| bytes.to_string()),
        ("get_image_size", [id]) => Output::of(with_image_id(id, |id| cache.image_size(id)), |bytes| bytes.to_string()),
        ("get_hit_count", [id]) => Output::of(with_image_id(id, |id| cache.hit_count(id)), |hits| hits.to_string()),
        ("list_cached", []) => Output::of(cache.list_cached(), |images| list(images.map(|image| format_image(&image)))),
        ("list_queued", []) => {
            Output::of(cache.list_queued(), |images| list(images.iter().map(|image| escape(image.image_id.as_bytes()))))
        }
        ("get_image", [id]) => Output::of(with_image_id(id, |id| cache.get_image(id)), |image| format_image(&image)),
        ("list_incomplete", []) => Output::of(cache.list_incomplete(), |images| {
            list(images.iter().map(|image| uncached(&image.image_id, image.size, Some(image.holder.to_string()))))
        }),
        ("list_invalid", []) => Output::of(cache.list_invalid(), |images| {
            list(images.into_iter().map(|image| uncached(&image.image_id, image.size, image.reason)))
        }),
        ("access_order", []) => Output::of(cache.list_cached(), |images| {
            let mut images: Vec<_> = images.collect();
            images.sort_by_key(|image| image.last_accessed);
            list(images.iter().map(|image| escape(image.image_id.as_bytes())))
        }),
        ("delete_queued_image", [id]) => Output::status(with_image_id(id, |id| cache.delete_queued_image(id))),
        ("delete_cached_image", [id]) => Output::status(with_image_id(id, |id| cache.delete_cached_image(id))),
        ("delete_unused_image", [id]) => {
            Output::of(with_image_id(id, |id| cache.delete_unused_image(id)), |deleted| deleted.to_string())
        }
        ("delete_all_queued_images", []) => {
            Output::of(cache.delete_all_queued_images(), |deleted| format!("{deleted} deleted"))
        }
        ("delete_all_cached_images", []) => {
            Output::of(cache.delete_all_cached_images(), |deleted| format!("{deleted} deleted"))
        }
        ("set_max_size", [bytes]) => Output::status(cache.set_max_size(number(bytes)?)),
        ("get_usage", []) => Output::of(cache.usage(), |usage| format_usage(&usage)),
        ("prune", []) => pruned(cache.prune()),
        ("prune_to", [bytes]) => pruned(cache.prune_to(number(bytes)?)),
        ("make_room", [bytes]) => pruned(cache.make_room(number(bytes)?)),
        ("pin", [id, holder, seconds]) => Output::status(pin(cache, id, holder, number(seconds)?)),
        ("unpin", [id, holder]) => Output::status(with_image_id(id, |id| cache.unpin(id, holder))),
        ("pinned", [id]) => Output::of(with_image_id(id, |id| cache.get_image(id)), |image| pinned(image.pinned_until)),
        ("statistics", names) => {
            let known = cache.statistics();
            let shown = known.as_ref().ok().map(|known| names.iter().map(|name| statistic(known, name)));
            let shown: Vec<_> = shown.into_iter().flatten().collect::<Result<_, _>>()?;
            Output::of(known, |_| list(shown.iter().map(u64::to_string)))
        }
        ("verify_all", options) => verify(cache, None, options)?,
        ("verify", [id, options @ ..]) => verify(cache, Some(id), options)?,
        ("clean", [seconds]) => Output::of(cache.clean(stall_time(seconds)?), |removed| format!("{removed} removed")),
        _ => return Ok(None),
    }))
}

/// Calls with an image id. A `&str` cannot hold an id that is not UTF-8, so that gets the C functions' error.
pub fn with_image_id<T>(word: &[u8], call: impl FnOnce(&str) -> image_cache::Result<T>) -> image_cache::Result<T> {
    match std::str::from_utf8(word) {
        Ok(id) => call(id),
        Err(_) => Err(Error::InvalidImageId { image_id: escape(word), why: "it is not UTF-8" }),
    }
}

fn yes_or_no(outcome: image_cache::Result<bool>) -> Output {
    Output::of(outcome, |value| value.to_string())
}

fn format_image(image: &CachedImage) -> String {
    let digest = image.digest.as_deref().unwrap_or("-");
    let digest = if digest.starts_with("crc64nvme:") { "crc" } else { digest };
    format!("{},{},{},{digest}", escape(image.image_id.as_bytes()), image.size, image.hits)
}

/// In whole MiB: file systems differ in what they add to the bytes.
fn format_usage(usage: &Usage) -> String {
    let Usage { cached, incomplete, reserved, invalid, deleted, limit, is_hard, .. } = *usage;
    let [cached, incomplete, reserved, invalid, deleted] =
        [cached, incomplete, reserved, invalid, deleted].map(|bytes| bytes >> 20);
    let mode = if is_hard { "hard" } else { "soft" };
    format!("{cached},{incomplete},{reserved},{invalid},{deleted} {mode} {limit}")
}

fn percent(word: &[u8]) -> Result<u32, Stop> {
    number(word)?.try_into().map_err(|_| Stop::BadLine("not a percentage"))
}

/// The C function refuses what looks like a negative number.
fn pin(cache: &ImageCache, id: &[u8], holder: &[u8], seconds: u64) -> image_cache::Result<()> {
    if i64::try_from(seconds).is_err() {
        return Err(Error::InvalidArgument(format!("{seconds} s")));
    }
    with_image_id(id, |id| cache.pin(id, holder, (seconds > 0).then(|| Duration::from_secs(seconds))))
}

fn pinned(until: i64) -> String {
    match until {
        0 => "no".to_owned(),
        i64::MAX => "for_life".to_owned(),
        until => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
            let left = u128::try_from(until).unwrap_or(0).saturating_sub(now);
            format!("{} min", left.div_ceil(60_000_000_000))
        }
    }
}

fn statistic(statistics: &Statistics, name: &[u8]) -> Result<u64, Stop> {
    Ok(match name {
        b"images" => statistics.images,
        b"bytes" => statistics.bytes,
        b"allocated" => statistics.allocated,
        b"limit" => statistics.limit,
        b"free" => statistics.free,
        b"next_victim_idle" => statistics.next_victim_idle,
        b"hits" => statistics.hits,
        b"misses" => statistics.misses,
        b"commits" => statistics.commits,
        b"aborted_by_call" => statistics.aborted_by_call,
        b"closed_early" => statistics.closed_early,
        b"wrong_digest" => statistics.wrong_digest,
        b"wrong_size" => statistics.wrong_size,
        b"no_space" => statistics.no_space,
        b"lost" => statistics.lost,
        b"source_failed" => statistics.source_failed,
        b"other_failures" => statistics.other_failures,
        b"evictions" => statistics.evictions,
        b"evicted_bytes" => statistics.evicted_bytes,
        b"streams_followed" => statistics.streams_followed,
        b"bytes_not_fetched" => statistics.bytes_not_fetched,
        b"bytes_served" => statistics.bytes_served,
        b"verified" => statistics.verified,
        b"found_damaged" => statistics.found_damaged,
        _ => return Err(Stop::BadLine("no such field")),
    })
}

fn pruned(outcome: image_cache::Result<Pruned>) -> Output {
    Output::of(outcome, |pruned| format!("{} images {} bytes", pruned.images, pruned.bytes))
}

/// The options are `rate=N`, `skip=N` and `stop=N`: the N-th call of the progress function stops it.
fn verify(cache: &ImageCache, id: Option<&[u8]>, words: &[&[u8]]) -> Result<Output, Stop> {
    let mut options = VerifyOptions::default();
    let (mut stop, mut calls) = (0, 0);
    for word in words {
        let equals = word.iter().position(|&byte| byte == b'=').ok_or(Stop::BadLine("no such option"))?;
        let value = number(&word[equals + 1..])?;
        match &word[..equals] {
            b"rate" => options.bytes_per_second = value,
            b"skip" => options.skip_verified_within = Duration::from_secs(value),
            b"stop" => stop = value,
            _ => return Err(Stop::BadLine("no such option")),
        }
    }
    let progress = |_: &str, _, _| {
        calls += 1;
        if calls == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = match id {
        Some(id) => with_image_id(id, |id| cache.verify(Some(id), &options, progress)),
        None => cache.verify(None, &options, progress),
    };
    Ok(Output::of(outcome, |result| {
        let Verified { verified, failed, unreadable, without_digest, skipped, bytes_read, stopped } = result;
        let stopped = if stopped { " stopped" } else { "" };
        format!(
            "{verified} verified {failed} failed {unreadable} unreadable {without_digest} without {skipped} skipped \
             {bytes_read} bytes{stopped}"
        )
    }))
}

fn uncached(id: &str, size: u64, reason: Option<String>) -> String {
    let reason = reason.map_or("-".to_owned(), |reason| escape(reason.as_bytes()));
    format!("{},{size},{reason}", escape(id.as_bytes()))
}

/// A negative number gives `None`, which selects the configured stall time.
fn stall_time(word: &[u8]) -> Result<Option<Duration>, Stop> {
    let seconds: i64 = text(word)?.parse().map_err(|_| Stop::BadLine("not a number"))?;
    Ok(u64::try_from(seconds).ok().map(Duration::from_secs))
}

fn open(scenario: &mut Scenario, name: &[u8], words: &[&[u8]]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let own_driver = words.iter().any(|word| word.starts_with(b"driver="));
    if !own_driver && scenario.driver == DriverChoice::Xattr && !disk::has_user_attributes(&scenario.root) {
        return Err(Stop::Skipped(disk::NO_USER_ATTRIBUTES));
    }
    let log_messages = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&log_messages);
    let log = Log::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut directory = scenario.path(b"");
    let mut options = Ok(Options::new().driver(scenario.driver).log(log));
    for word in words {
        let equals = word.iter().position(|&byte| byte == b'=').ok_or(Stop::BadLine("no such option"))?;
        let (key, value) = (&word[..equals], &word[equals + 1..]);
        if key == b"directory" {
            directory = scenario.path(value);
        } else if let Ok(previous) = options {
            options = set_option(previous, key, value)?;
        }
    }
    let opened = options.and_then(|options| ImageCache::open(directory, options));
    if opened.is_ok() {
        scenario.selected = Some(name.clone());
    }
    Ok(scenario.insert(name, opened.map(|cache| Handle::Cache(OpenCache { cache, log_messages }))))
}

/// A value that this API's types cannot express gets the C function's error.
fn set_option(options: Options, key: &[u8], value: &[u8]) -> Result<image_cache::Result<Options>, Stop> {
    let unknown = || Error::InvalidArgument(format!("{} is unknown", escape(value)));
    Ok(match key {
        b"max_size" => Ok(options.max_size(number(value)?)),
        b"limit" => match value {
            b"soft" => Ok(options.limit_mode(LimitMode::Soft)),
            b"hard" => Ok(options.limit_mode(LimitMode::Hard)),
            _ => Err(unknown()),
        },
        b"min_free" => options.min_free(number(value)?, 0),
        b"min_free_percent" => options.min_free(0, percent(value)?),
        b"min_free_inodes" => options.min_free_inodes(number(value)?, 0),
        b"max_pinned" => match u32::try_from(number(value)?) {
            Ok(percent) => options.max_pinned(percent),
            Err(_) => Err(unknown()),
        },
        b"stall_time" => Ok(options.stall_time(Duration::from_secs(number(value)?))),
        b"database" => options.database(OsStr::from_bytes(value)),
        b"formats" => options.formats(&String::from_utf8_lossy(value)),
        b"durability" => match value {
            b"none" => Ok(options.durability(Durability::None)),
            b"full" => Ok(options.durability(Durability::Full)),
            _ => Err(unknown()),
        },
        b"driver" => match value {
            b"sqlite" => Ok(options.driver(DriverChoice::Sqlite)),
            b"xattr" => Ok(options.driver(DriverChoice::Xattr)),
            b"xattr_or_sqlite" => Ok(options.driver(DriverChoice::XattrOrSqlite)),
            _ => Err(unknown()),
        },
        _ => return Err(Stop::BadLine("no such option")),
    })
}

fn select(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    let name = text(name)?;
    if !matches!(scenario.handles.get(name), Some(Handle::Cache(_))) {
        return Err(Stop::BadLine("no cache of that name is open"));
    }
    scenario.selected = Some(name.to_owned());
    Ok(Output::ok(""))
}

fn close(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    let name = text(name)?;
    if !matches!(scenario.handles.get(name), Some(Handle::Cache(_))) {
        return Err(Stop::BadLine("no cache of that name is open"));
    }
    scenario.handles.remove(name);
    if scenario.selected.as_deref() == Some(name) {
        scenario.selected = None;
    }
    Ok(Output::ok(""))
}
