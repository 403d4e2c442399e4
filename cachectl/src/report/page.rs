//! The page itself.

use std::fmt::Write as _;
use std::time::Duration;

use image_cache::CachedImage;

use super::chart::{Bar, Chart, Point, Shape, bars};
use super::scale::Unit;
use super::series::{Step, steps};
use crate::metrics::history::Sample;
use crate::metrics::snapshot::Snapshot;
use crate::units::{count, duration, images, percent, rfc3339, size};

const STYLE: &str = include_str!("style.css");

/// So many images are listed.
const LISTED: usize = 15;

const NANOSECONDS: i64 = 1_000_000_000;

/// Idle times of images: their upper ends in seconds, and names.
const AGES: [(u64, &str); 6] = [
    (3600, "less than 1 h"),
    (86_400, "1 h to 1 day"),
    (7 * 86_400, "1 to 7 days"),
    (30 * 86_400, "7 to 30 days"),
    (90 * 86_400, "30 to 90 days"),
    (u64::MAX, "more than 90 days"),
];

/// What the page is about.
pub struct Facts {
    pub snapshot: Snapshot,
    /// In the order of time.
    pub samples: Vec<Sample>,
    pub images: Vec<CachedImage>,
}

/// The page.
pub fn html(facts: &Facts) -> String {
    let snapshot = &facts.snapshot;
    let steps = steps(&facts.samples);
    let directory = escaped(&snapshot.directory);
    let parts = [
        tiles(snapshot),
        format!(
            "<div class=\"grid\">\n{}{}{}{}</div>\n",
            filling(&steps, snapshot),
            ratio(&steps),
            evictions(&steps),
            ages(facts)
        ),
        format!("<div class=\"grid\">\n{}{}</div>\n", listed(facts), failures(snapshot)),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Image cache {directory}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{directory}</h1><p>Image cache, {} driver, at {}</p></header>\n{}\
         <footer>Written by image-cachectl {}. Times are in UTC. Sizes are powers of 1024.</footer>\n</main>\n</body>\n</html>\n",
        snapshot.driver.name(),
        moment(snapshot.time),
        parts.concat(),
        env!("CARGO_PKG_VERSION")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn moment(seconds: u64) -> String {
    let text = rfc3339(i64::try_from(seconds).unwrap_or(0).saturating_mul(NANOSECONDS));
    text.get(..16).unwrap_or_default().replace('T', " ")
}

fn tile(html: &mut String, name: &str, value: &str, more: &str) {
    let _ = writeln!(html, "<div class=\"tile\"><span>{name}</span><b>{value}</b><span>{more}</span></div>");
}

fn tiles(snapshot: &Snapshot) -> String {
    let mut html = String::from("<div class=\"tiles\">\n");
    let used = snapshot.used();
    let (value, more) = match snapshot.limit {
        Some(limit) => {
            let part = percent(used, limit).unwrap_or_else(|| "0 %".to_owned());
            let width = u64::try_from(u128::from(used) * 100 / u128::from(limit.max(1))).unwrap_or(100).min(100);
            let track = format!("<span class=\"track\"><span style=\"width:{width}%\"></span></span>");
            (
                size(used),
                format!(
                    "{part} of the {} limit, {}{track}",
                    if snapshot.is_hard { "hard" } else { "soft" },
                    size(limit)
                ),
            )
        }
        None => (size(used), format!("no limit; {} are free", size(snapshot.free))),
    };
    tile(&mut html, "Used", &value, &more);
    let pinned = match snapshot.pinned_images {
        0 => "none is pinned".to_owned(),
        number => format!("{} pinned, {}", count(number), size(snapshot.pinned_allocated)),
    };
    tile(&mut html, "Images", &count(snapshot.images), &pinned);
    let reads = snapshot.counters.hits.saturating_add(snapshot.counters.misses);
    let (ratio, of) = match percent(snapshot.counters.hits, reads) {
        Some(ratio) => (ratio, format!("hits of all reads ({}) since the cache was created", count(reads))),
        None => ("none".to_owned(), "nothing was read yet".to_owned()),
    };
    tile(&mut html, "Hit ratio", &ratio, &of);
    let idle =
        if snapshot.images > 0 { duration(Duration::from_secs(snapshot.next_victim_idle)) } else { "none".to_owned() };
    tile(
        &mut html,
        "Idle before eviction",
        &idle,
        "the image that is evicted next; a short time means that the limit is too small",
    );
    let evicted = format!("{} since the cache was created", size(snapshot.counters.evicted_bytes));
    tile(&mut html, "Evicted images", &count(snapshot.counters.evictions), &evicted);
    html + "</div>\n"
}

fn section(title: &str, note: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n<p class=\"note\">{note}</p>\n{content}</section>\n")
}

/// A chart, or why there is none.
fn charted(chart: &Chart<'_>) -> String {
    let svg = chart.svg();
    if !svg.is_empty() {
        return svg;
    }
    "<p class=\"empty\">There is no history yet. Run <code>image-cachectl metrics --history FILE</code> every few minutes, \
     and <code>report --history FILE</code>.</p>\n"
        .to_owned()
}

fn points(steps: &[Step], value: impl Fn(&Step) -> Option<u64>, hint: impl Fn(&Step, u64) -> String) -> Vec<Point> {
    let point = |step: &Step| {
        let value = value(step);
        let text = value.map_or_else(|| "nothing is known".to_owned(), |value| hint(step, value));
        Point { from: step.from, to: step.to, value, hint: format!("until {}: {text}", moment(step.to)) }
    };
    steps.iter().map(point).collect()
}

fn filling(steps: &[Step], snapshot: &Snapshot) -> String {
    let used = |step: &Step| step.last.as_ref().map(|sample| sample.used);
    let hint = |step: &Step, used: u64| {
        let number = step.last.as_ref().map_or(0, |sample| sample.images);
        format!("{}, {}", size(used), images(number))
    };
    let chart = Chart {
        label: "Bytes in the cache over time",
        unit: Unit::Bytes,
        shape: Shape::Area,
        points: points(steps, used, hint),
        bound: snapshot.limit.map(|limit| (limit, "limit")),
    };
    let note =
        if snapshot.is_hard { "what counts for the limit, on the disk" } else { "the lengths of the cached images" };
    section("Filling", note, &charted(&chart))
}

fn ratio(steps: &[Step]) -> String {
    let hint = |step: &Step, ratio: u64| format!("{ratio} %, {} hits, {} misses", count(step.hits), count(step.misses));
    let chart = Chart {
        label: "Hit ratio over time, in per cent",
        unit: Unit::Percent,
        shape: Shape::Area,
        points: points(steps, Step::hit_ratio, hint),
        bound: None,
    };
    section("Hit ratio", "hits of all reads; a gap where nothing was read", &charted(&chart))
}

fn evictions(steps: &[Step]) -> String {
    let chart = Chart {
        label: "Evicted bytes over time",
        unit: Unit::Bytes,
        shape: Shape::Bars,
        points: points(steps, |step| Some(step.evicted_bytes), |_, bytes| size(bytes)),
        bound: None,
    };
    section("Evictions", "lengths of the evicted images", &charted(&chart))
}

/// For how long an image was not accessed.
fn idle(image: &CachedImage, now: u64) -> u64 {
    now.saturating_sub(u64::try_from(image.last_accessed / NANOSECONDS).unwrap_or(0))
}

fn ages(facts: &Facts) -> String {
    let mut groups = AGES.map(|(end, name)| (end, name, 0_u64, 0_u64));
    for image in &facts.images {
        let idle = idle(image, facts.snapshot.time);
        if let Some(group) = groups.iter_mut().find(|(end, ..)| idle < *end) {
            group.2 += 1;
            group.3 = group.3.saturating_add(image.size);
        }
    }
    let list = groups.map(|(_, name, number, bytes)| Bar {
        name: name.to_owned(),
        value: bytes,
        text: if number == 0 { "none".to_owned() } else { format!("{}, {}", images(number), size(bytes)) },
    });
    section("Idle ages", "for how long images were not accessed, by their sizes", &bars(&list))
}

fn listed(facts: &Facts) -> String {
    if facts.images.is_empty() {
        return section("Largest images", "", "<p class=\"empty\">No image is cached.</p>\n");
    }
    let mut largest: Vec<_> = facts.images.iter().collect();
    largest.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.image_id.cmp(&other.image_id)));
    let mut rows = String::from(
        "<div class=\"scroll\"><table>\n<tr><th>Image</th><th class=\"number\">Size</th><th class=\"number\">Hits</th>\
         <th class=\"number\">Idle</th></tr>\n",
    );
    for image in largest.iter().take(LISTED) {
        let _ = writeln!(
            rows,
            "<tr><td class=\"id\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escaped(&image.image_id),
            size(image.size),
            count(image.hits),
            duration(Duration::from_secs(idle(image, facts.snapshot.time)))
        );
    }
    let note = format!("{} of {}", count(largest.len().min(LISTED) as u64), images(largest.len() as u64));
    section("Largest images", &note, &format!("{rows}</table></div>\n"))
}

fn failures(snapshot: &Snapshot) -> String {
    let list: Vec<_> = (snapshot.counters.failures.reasons().into_iter())
        .map(|reason| Bar { name: reason.words.to_owned(), value: reason.images, text: count(reason.images) })
        .collect();
    let damaged = match snapshot.counters.found_damaged {
        0 if snapshot.counters.verified == 0 => "none yet".to_owned(),
        0 => format!("{}, none was damaged", images(snapshot.counters.verified)),
        number => format!(
            "<span class=\"wrong\">{} found damaged</span>, {} intact",
            images(number),
            count(snapshot.counters.verified)
        ),
    };
    let note = format!("since the cache was created; {} cached", images(snapshot.counters.commits));
    section("Failed fetches", &note, &format!("{}<p class=\"note\">Verifications: {damaged}.</p>\n", bars(&list)))
}

#[cfg(test)]
mod tests {
    use super::super::super::metrics::snapshot::tests::snapshot;
    use super::*;

    fn facts() -> Facts {
        let image = CachedImage {
            image_id: "<b>&\"x\"".to_owned(),
            size: 1 << 30,
            allocated: 1 << 30,
            hits: 3,
            last_accessed: 1_790_000_000 * NANOSECONDS - 3 * 86_400 * NANOSECONDS,
            last_modified: 0,
            digest: None,
            pinned_until: 0,
        };
        let sample = |time| Sample { time, used: time, hits: time, ..Sample::default() };
        Facts { snapshot: snapshot(), samples: vec![sample(1000), sample(2000), sample(3000)], images: vec![image] }
    }

    #[test]
    fn texts_of_others_are_escaped() {
        let html = html(&facts());
        assert!(html.contains("&lt;b&gt;&amp;&quot;x&quot;") && !html.contains("<b>&"), "{html}");
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let html = html(&facts());
        for part in ["http://", "https://", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg").count(), 3);
    }

    #[test]
    fn without_a_history_the_page_says_how_to_get_one() {
        let html = html(&Facts { samples: Vec::new(), ..facts() });
        assert_eq!((html.matches("<svg").count(), html.matches("metrics --history").count()), (0, 3));
    }

    #[test]
    fn idle_ages_have_each_image_once() {
        assert!(html(&facts()).contains("<dt>1 to 7 days</dt><dd><span class=\"track\"><span style=\"width:100.0%\"></span></span><span>1 image, 1.00 GiB</span>"));
    }
}
