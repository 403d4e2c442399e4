//! `show`: one image, in whatever state it is.

use clap::Args;
use image_cache::{CachedImage, Error, ImageCache, IncompleteImage, InvalidImage, Pin, QueuedImage};
use serde::Serialize;

use crate::commands::list::{Incomplete, Invalid, holder};
use crate::exit::{Exit, Failure};
use crate::image::{Image, end};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{count, date, rfc3339, size};

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: what keeps an image from being evicted
  image-cachectl show cirros")]
pub struct Arguments {
    /// The image's id
    image: String,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let shown = Show::of(context, &cache, &arguments.image)?;
    context.output.print(&shown)?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Show {
    id: String,
    /// The first of these that is not null.
    state: &'static str,
    cached: Option<Cached>,
    incomplete: Option<Incomplete>,
    invalid: Option<Invalid>,
    queued_at: Option<String>,
    #[serde(skip)]
    found: Found,
}

/// The same, as the library returned it.
#[derive(Debug)]
struct Found {
    cached: Option<(CachedImage, Vec<Pin>)>,
    incomplete: Option<IncompleteImage>,
    invalid: Option<InvalidImage>,
    queued: Option<QueuedImage>,
}

#[derive(Debug, Serialize)]
struct Cached {
    #[serde(flatten)]
    image: Image,
    path: String,
    in_use: bool,
    pins: Vec<PinShown>,
}

/// A pin of an image.
#[derive(Debug, Serialize)]
struct PinShown {
    holder: String,
    until: Option<String>,
    process: Option<u32>,
}

impl Show {
    fn of(context: &Context, cache: &ImageCache, id: &str) -> Result<Self, Failure> {
        let cached = match cache.get_image(id) {
            Ok(image) => Some((image, cache.pins(id)?)),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let found = Found {
            cached,
            incomplete: cache.list_incomplete()?.into_iter().find(|image| image.image_id == id),
            invalid: cache.list_invalid()?.into_iter().find(|image| image.image_id == id),
            queued: cache.list_queued()?.into_iter().find(|image| image.image_id == id),
        };
        let states = [
            ("cached", found.cached.is_some()),
            ("incomplete", found.incomplete.is_some()),
            ("queued", found.queued.is_some()),
            ("invalid", found.invalid.is_some()),
        ];
        let Some((state, _)) = states.into_iter().find(|(_, is_in_it)| *is_in_it) else {
            return Err(Failure::new(
                Exit::NotFound,
                format!("image '{id}' is neither cached nor being cached nor queued"),
            ));
        };
        let path = context.settings()?.directory.join(id);
        let cached = found.cached.as_ref().map(|(image, pins)| Cached {
            image: Image::new(image, true),
            path: path.canonicalize().unwrap_or(path).display().to_string(),
            in_use: cache.is_in_use(id).unwrap_or(false),
            pins: pins.iter().map(PinShown::from).collect(),
        });
        Ok(Self {
            id: id.to_owned(),
            state,
            cached,
            incomplete: found.incomplete.as_ref().map(Incomplete::from),
            invalid: found.invalid.as_ref().map(Invalid::from),
            queued_at: found.queued.as_ref().map(|image| rfc3339(image.queued)),
            found,
        })
    }
}

impl From<&Pin> for PinShown {
    fn from(pin: &Pin) -> Self {
        Self { holder: holder_of(pin), until: end(pin.until), process: pin.process }
    }
}

/// The name of a pin's holder: other bytes than text are escaped.
pub fn holder_of(pin: &Pin) -> String {
    match std::str::from_utf8(&pin.holder) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => pin.holder.escape_ascii().to_string(),
    }
}

/// Who has an image pinned, and until when.
pub fn pin_text(pin: &Pin) -> String {
    let until = match (pin.process, end(pin.until)) {
        (Some(process), _) => format!("as long as process {process} lives"),
        (None, Some(_)) => format!("until {}", date(pin.until)),
        (None, None) => "until it is unpinned".to_owned(),
    };
    format!("by '{}' {until}", holder_of(pin))
}

impl Shown for Show {
    fn text(&self, page: &mut Page) {
        let mut facts = vec![("Image", self.id.clone())];
        if let (Some(cached), Some((image, pins))) = (&self.cached, &self.found.cached) {
            facts.extend([
                ("State", "cached".to_owned()),
                (
                    "Size",
                    format!(
                        "{} ({} bytes), {} on the disk",
                        size(image.size),
                        count(image.size),
                        size(image.allocated)
                    ),
                ),
                ("Hits", count(image.hits)),
                ("Accessed", date(image.last_accessed)),
                ("Cached", date(image.last_modified)),
                ("Digest", image.digest.clone().unwrap_or_else(|| "none: 'verify' computes one".to_owned())),
                ("In use", if cached.in_use { "yes: it is not evicted" } else { "no" }.to_owned()),
            ]);
            if pins.is_empty() {
                facts.push(("Pinned", "no".to_owned()));
            }
            facts.extend(pins.iter().map(|pin| ("Pinned", pin_text(pin))));
            facts.push(("File", cached.path.clone()));
        }
        if let Some(image) = &self.found.incomplete {
            facts.extend([
                ("State", "being cached".to_owned()),
                ("Size so far", size(image.size)),
                ("Held by", holder(image)),
                ("Begun", image.since.map_or("unknown".to_owned(), date)),
                ("Written", date(image.last_modified)),
            ]);
        }
        if let Some(image) = &self.found.queued {
            facts.push(("Queued", date(image.queued)));
        }
        if let Some(image) = &self.found.invalid {
            facts.extend([
                ("Failed", date(image.last_modified)),
                ("Size then", size(image.size)),
                ("Because", image.reason.clone().unwrap_or_else(|| "unknown".to_owned())),
            ]);
        }
        page.facts(&facts);
    }
}
