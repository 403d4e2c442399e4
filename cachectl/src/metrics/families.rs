//! The names of the metrics. They follow bazel-remote (`size_bytes`, `logical_bytes`, `longest_item_idle_time_seconds`,
//! `evicted_bytes_total`, requests with a result) and CVMFS (`pinned_bytes`). A name never changes its meaning; docs/metrics.md lists them.

use super::exposition::{Family, Kind, Sample};
use super::snapshot::Snapshot;

/// The metrics of a snapshot.
pub fn families(snapshot: &Snapshot) -> Vec<Family> {
    [sizes(snapshot), bounds(snapshot), counters(snapshot)].concat()
}

/// Makes families whose samples have the directory as a label.
struct Maker<'a>(&'a Snapshot);

impl Maker<'_> {
    fn sample(&self, labels: &[(&'static str, &str)], value: u64) -> Sample {
        let directory = [("directory", self.0.directory.as_str())];
        let labels = directory.iter().chain(labels).map(|(name, text)| (*name, (*text).to_owned())).collect();
        Sample { labels, value }
    }

    fn one(&self, kind: Kind, name: &'static str, help: &'static str, value: impl Into<Option<u64>>) -> Family {
        let samples = value.into().map(|value| self.sample(&[], value)).into_iter().collect();
        Family { name, kind, unit: unit(name), help, samples }
    }

    fn gauge(&self, name: &'static str, help: &'static str, value: impl Into<Option<u64>>) -> Family {
        self.one(Kind::Gauge, name, help, value)
    }

    fn counter(&self, name: &'static str, help: &'static str, value: u64) -> Family {
        self.one(Kind::Counter, name, help, value)
    }

    /// One number for each value of a label.
    fn by(&self, label: &'static str, values: &[(&str, u64)], name: &'static str, help: &'static str) -> Family {
        let samples = values.iter().map(|(text, value)| self.sample(&[(label, text)], *value)).collect();
        Family { name, kind: Kind::Counter, unit: unit(name), help, samples }
    }
}

/// The unit at the end of a name.
fn unit(name: &str) -> &'static str {
    ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default()
}

fn sizes(snapshot: &Snapshot) -> Vec<Family> {
    let make = Maker(snapshot);
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("driver", snapshot.driver.name())];
    let info = Family {
        name: "image_cache",
        kind: Kind::Info,
        unit: "",
        help: "The version of image-cachectl, and the cache's driver.",
        samples: vec![make.sample(&labels, 1)],
    };
    vec![
        info,
        make.gauge("image_cache_images", "Cached images.", snapshot.images),
        make.gauge("image_cache_size_bytes", "What the cached images take up on the disk.", snapshot.allocated),
        make.gauge("image_cache_logical_bytes", "The lengths of the cached images.", snapshot.bytes),
        make.gauge("image_cache_pinned_images", "Cached images that are pinned.", snapshot.pinned_images),
        make.gauge(
            "image_cache_pinned_bytes",
            "What the pinned images take up on the disk.",
            snapshot.pinned_allocated,
        ),
        make.gauge("image_cache_incomplete_images", "Images that are being cached.", snapshot.incomplete_images),
        make.gauge(
            "image_cache_incomplete_bytes",
            "What images that are being cached take up on the disk, with what is reserved for them.",
            snapshot.incomplete_allocated,
        ),
        make.gauge(
            "image_cache_reserved_bytes",
            "The part of the incomplete bytes that is only reserved.",
            snapshot.reserved,
        ),
        make.gauge("image_cache_dead_writers", "Incomplete images whose writer has died.", snapshot.dead_writers),
        make.gauge(
            "image_cache_invalid_images",
            "Failed fetches that the next clean removes.",
            snapshot.invalid_images,
        ),
        make.gauge("image_cache_invalid_bytes", "What failed fetches take up on the disk.", snapshot.invalid_allocated),
        make.gauge(
            "image_cache_deleted_bytes",
            "What deleted images that are still open take up on the disk.",
            snapshot.deleted_allocated,
        ),
        make.gauge("image_cache_queued_images", "Images that are to be prefetched.", snapshot.queued_images),
    ]
}

fn bounds(snapshot: &Snapshot) -> Vec<Family> {
    let make = Maker(snapshot);
    let limit =
        snapshot.limit.map(|limit| make.sample(&[("type", if snapshot.is_hard { "hard" } else { "soft" })], limit));
    let all = vec![
        Family {
            name: "image_cache_limit_bytes",
            kind: Kind::Gauge,
            unit: "bytes",
            help: "The limit: type hard is never exceeded, type soft is that of image-cachectl's configuration.",
            samples: limit.into_iter().collect(),
        },
        make.gauge(
            "image_cache_used_bytes",
            "What counts for the limit: all blocks if it is hard, else the lengths of the cached images.",
            snapshot.used(),
        ),
        make.gauge("image_cache_min_free_bytes", "What stays free on the file system at least.", snapshot.min_free),
        make.gauge("image_cache_filesystem_free_bytes", "What is free on the file system.", snapshot.free),
        make.gauge(
            "image_cache_filesystem_free_inodes",
            "Inodes that are free on the file system.",
            snapshot.free_inodes,
        ),
        make.gauge(
            "image_cache_longest_item_idle_time_seconds",
            "For how long the image that is evicted next was not accessed; 0 if none can be evicted.",
            snapshot.next_victim_idle,
        ),
    ];
    // Without a limit, or a fixed number of inodes, there is no number.
    all.into_iter().filter(|family| !family.samples.is_empty()).collect()
}

fn counters(snapshot: &Snapshot) -> Vec<Family> {
    let make = Maker(snapshot);
    vec![
        make.by(
            "result",
            &[("hit", snapshot.counters.hits), ("miss", snapshot.counters.misses)],
            "image_cache_requests",
            "Images that were read from the cache (hit), or were not there (miss).",
        ),
        make.counter(
            "image_cache_served_bytes",
            "Bytes that readers and streams have returned.",
            snapshot.counters.bytes_served,
        ),
        make.counter("image_cache_commits", "Images that were cached.", snapshot.counters.commits),
        make.by(
            "reason",
            &snapshot.counters.failures.reasons().map(|reason| (reason.name, reason.images)),
            "image_cache_failed_fetches",
            "Images that were not cached, by reason.",
        ),
        make.counter("image_cache_evicted_images", "Images that were evicted.", snapshot.counters.evictions),
        make.counter(
            "image_cache_evicted_bytes",
            "The lengths of the evicted images.",
            snapshot.counters.evicted_bytes,
        ),
        make.counter(
            "image_cache_followed_streams",
            "Streams that got bytes from the fetch of another one.",
            snapshot.counters.streams_followed,
        ),
        make.counter(
            "image_cache_not_fetched_bytes",
            "Bytes that streams got from the fetch of another one.",
            snapshot.counters.bytes_not_fetched,
        ),
        make.by(
            "result",
            &[("intact", snapshot.counters.verified), ("damaged", snapshot.counters.found_damaged)],
            "image_cache_verifications",
            "Images whose bytes were compared with their digests.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::snapshot;
    use super::*;

    #[test]
    fn each_number_of_the_snapshot_is_a_metric() {
        let families = families(&snapshot());
        let mut values: Vec<_> =
            families.iter().flat_map(|family| &family.samples).map(|sample| sample.value).collect();
        values.sort_unstable();
        // The information, the sum for the limit, and 101 to 136.
        let expected: Vec<_> = [1].into_iter().chain(101..=136).chain([433]).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn what_does_not_exist_has_no_number() {
        let families = families(&Snapshot { limit: None, free_inodes: None, ..snapshot() });
        let has = |name| families.iter().any(|family| family.name == name);
        assert!(!has("image_cache_limit_bytes") && !has("image_cache_filesystem_free_inodes"));
        assert!(has("image_cache_used_bytes"));
    }

    #[test]
    fn the_page_lists_each_metric_and_no_other() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `image_cache_")?.split('`').next());
        let listed: Vec<_> = rows.map(|name| format!("image_cache_{name}")).collect();
        let made: Vec<_> = families(&snapshot()).iter().map(Family::sample_name).collect();
        assert_eq!(listed, made);
    }
}
