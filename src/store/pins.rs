//! The pins of images: `.image_cache/pins/<image id>` has a record of 512 bytes for each holder (see `pin_record`).
//!
//! # Protocol
//!
//! Records change under the cache lock, so that a pin and a removal of its image exclude each other. Nothing is synced under it.
//!
//! - A pin goes into a free record, never over the one that its holder had: that one stays until the new one is whole, and does not
//!   count any more, since its sequence number is smaller. The next pin of the image clears it, before it uses a record: otherwise it
//!   would count again. With durability full, the file and the directories are then synced, and the
//!   call returns. A process that dies in between leaves a pin, or none.
//! - A record of zeros is free, and so is one that has ended or was replaced. A file that has been created, and not yet written, has
//!   none. After a power cut, a record that was not synced is whole, or zeros, or damaged.
//! - An unpin clears the records of its holder, replaced ones first. A file without a pin is removed.
//! - A damaged record pins its image, for an unknown holder: it may be the one that a running guest needs. `clean` removes it.
//! - A read without the cache lock may see a half-written record. Only listings do so; they read again.
//!
//! A pin for a process's life has a byte of `pins/.processes`, which the process has locked (see `sys::process_life`). If that
//! file is removed, these pins end; they count again after the next pin of that process.
//!
//! The files can be opened only by those who may write them, so who may only read the directory has no lock in anybody's way.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::pin_record::{LENGTH, Moment, PinRecord, PinTime, Slot};
use crate::store::recognise::{OWN_SUBDIRECTORY, PINS, PINS_PATH};
use crate::sys::dir::Directory;
use crate::sys::lock::is_locked_at_all;
use crate::sys::process_life::lock_for_life;
use crate::sys::signals::without_size_signal;
use crate::sys::stat::FileStat;
use crate::sys::{file, memory};

/// No image's name.
const PROCESSES: &str = ".processes";

/// How many records a file can have.
const MAX_RECORDS: usize = 512;

/// How many holders a message names.
const MAX_NAMED: usize = 3;

/// How often a listing reads a record that is being written.
const ATTEMPTS: usize = 3;

/// The directory of pins, for one operation.
pub(crate) struct Pins<'a> {
    layout: &'a Layout,
    log: &'a Log,
    directory: Directory,
    now: OnceCell<Moment>,
    processes: OnceCell<Option<File>>,
    known: OnceCell<HashSet<ImageId>>,
}

/// The pins of one image that count.
#[derive(Debug, Default)]
pub(crate) struct ImagePins {
    pins: Vec<(PinRecord, Duration)>,
    damaged: usize,
    /// The latest end, in nanoseconds since the Unix epoch; [`i64::MAX`] with a process, or unknown.
    pub until: i64,
}

impl ImagePins {
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.damaged == 0
    }

    /// The holders, when their pins end, and the processes that these last as long as. The damaged ones have none.
    pub fn into_pins(self) -> impl Iterator<Item = (Vec<u8>, i64, Option<u32>)> {
        let now = Moment::now();
        self.pins.into_iter().map(move |(pin, left)| {
            let until = pin.until(&now, left);
            let process = if let PinTime::Process { process, .. } = pin.time { Some(process) } else { None };
            (pin.holder, until, process)
        })
    }

    /// Who has the image pinned, and for how long, for messages.
    pub fn holders(&self) -> String {
        let named = self.pins.iter().take(MAX_NAMED).map(|(pin, left)| match pin.time {
            PinTime::Seconds(_) => format!("'{}' for {} s more", pin.holder.escape_ascii(), left.as_secs()),
            PinTime::Process { process, .. } => {
                format!("'{}' as long as process {process} lives", pin.holder.escape_ascii())
            }
        });
        let more = self.pins.len().saturating_sub(MAX_NAMED);
        let more = (more > 0).then(|| format!("{more} more"));
        let damaged = (self.damaged > 0).then(|| "a damaged pin, which a clean removes".to_owned());
        named.chain(more).chain(damaged).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> Pins<'a> {
    /// `None` when no image was ever pinned.
    pub fn open(layout: &'a Layout, log: &'a Log) -> Result<Option<Self>> {
        let directory = layout.directory(Area::Cached).open_subdirectory(PINS_PATH)?;
        Ok(directory.map(|directory| Self::new(layout, log, directory)))
    }

    pub fn create(layout: &'a Layout, log: &'a Log) -> Result<Self> {
        let (directory, _) = own_directory(layout)?.open_or_create(PINS)?;
        Ok(Self::new(layout, log, directory))
    }

    fn new(layout: &'a Layout, log: &'a Log, directory: Directory) -> Self {
        let (now, processes, known) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { layout, log, directory, now, processes, known }
    }

    /// The images that have a file of pins, in no order.
    pub fn ids(&self) -> Result<Vec<ImageId>> {
        let ids = self.directory.names()?.filter_map(|name| match name {
            Ok(name) => name.to_str().and_then(|name| self.layout.image_id(name).ok()).map(Ok),
            Err(error) => Some(Err(error)),
        });
        memory::collect(ids, "list the pins")
    }

    /// Whether an image has a file of pins.
    pub fn has_file(&self, id: &ImageId) -> Result<bool> {
        Ok(self.directory.stat(id.as_file_name())?.is_some())
    }

    /// The pins of an image that count.
    pub fn of(&self, id: &ImageId) -> Result<ImagePins> {
        // Most images have none, and this is the cheapest call.
        if !self.has_file(id)? {
            return Ok(ImagePins::default());
        }
        let Some(file) = self.directory.open_file(id.as_file_name())? else { return Ok(ImagePins::default()) };
        self.count(id, &self.slots(&file, id)?)
    }

    /// Fails for an image that is cached and pinned, and that had pins when this was called first. A pin that was made later is missed:
    /// the removal checks again.
    pub fn check_none_known(&self, id: &ImageId) -> Result<()> {
        if self.known.get().is_none() {
            let _ = self.known.set(self.ids()?.into_iter().collect());
        }
        if self.known.get().is_some_and(|known| known.contains(id)) { self.check_none(id) } else { Ok(()) }
    }

    /// Fails for an image that is cached and pinned.
    pub fn check_none(&self, id: &ImageId) -> Result<()> {
        let pins = self.of(id)?;
        if pins.is_empty() || !self.layout.has(Area::Cached, id)? {
            return Ok(());
        }
        Err(Error::Pinned { image_id: id.to_string(), holders: pins.holders() })
    }

    /// As [`Self::of`], but an image whose pins cannot be read counts as pinned, which is logged.
    pub fn of_or_unknown(&self, id: &ImageId) -> ImagePins {
        self.of(id).unwrap_or_else(|error| {
            self.log.warning(|| format!("{error}; image '{id}' counts as pinned"));
            ImagePins { pins: Vec::new(), damaged: 1, until: i64::MAX }
        })
    }

    /// The same, without the cache lock. Pins that this process may not read are not counted.
    pub fn unlocked(&self, id: &ImageId) -> ImagePins {
        for _ in 1..ATTEMPTS {
            match self.of(id) {
                Ok(pins) if pins.damaged > 0 => {}
                Ok(pins) => return pins,
                Err(error) if error.is_denied() => return ImagePins::default(),
                Err(_) => break,
            }
        }
        self.of_or_unknown(id)
    }

    /// Pins an image, in place of the pin that the holder has. Returns the file, to be synced.
    pub fn add(&self, lock: &CacheLockGuard<'_>, id: &ImageId, holder: &[u8], time: PinTime) -> Result<File> {
        lock.check_held()?;
        let (file, is_new) = self.open_or_create(id.as_file_name())?;
        let mut slots = self.slots(&file, id)?;
        self.clear_replaced(&file, id, &mut slots)?;
        let is_free = |slot: &Slot| match slot {
            Slot::Free | Slot::Replaced => true,
            Slot::Pin(pin) => self.has_ended(pin).unwrap_or(false),
            Slot::Unreadable => false,
        };
        let place = slots.iter().position(is_free).unwrap_or(slots.len());
        if place >= MAX_RECORDS {
            return Err(Error::InvalidArgument(format!("image '{id}' has {MAX_RECORDS} pins, and can have no more")));
        }
        let sequence = pins_of(&slots).map(|pin| pin.sequence).max().unwrap_or(0).saturating_add(1);
        let pin = PinRecord { sequence, holder: holder.to_vec(), time, made: Moment::now() };
        self.write(&file, id, place, &pin.to_bytes()).inspect_err(|_| {
            // Half a record would be a damaged one.
            let length = (slots.len() * LENGTH) as u64;
            let _ = if is_new {
                self.directory.remove(id.as_file_name()).map(drop)
            } else if place == slots.len() {
                file::set_length(&file, || self.directory.path_of(id.as_file_name()), length)
            } else {
                self.write(&file, id, place, &[0; LENGTH])
            };
        })?;
        Ok(file)
    }

    /// Clears records that their holders have replaced, before the record that replaced them is used for another pin.
    fn clear_replaced(&self, file: &File, id: &ImageId, slots: &mut [Slot]) -> Result<()> {
        for (place, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| matches!(slot, Slot::Replaced)) {
            self.write(file, id, place, &[0; LENGTH])?;
            *slot = Slot::Free;
        }
        Ok(())
    }

    /// The time of a pin that lasts as long as this process.
    pub fn process_life(&self, lock: &CacheLockGuard<'_>) -> Result<PinTime> {
        lock.check_held()?;
        let (processes, _) = self.open_or_create(OsStr::new(PROCESSES))?;
        let byte = lock_for_life(processes)
            .map_err(|errno| Error::system("lock", &self.directory.path_of(OsStr::new(PROCESSES)), errno))?;
        Ok(PinTime::Process { process: std::process::id(), byte })
    }

    /// Makes pins durable, their file's name included.
    pub fn sync(&self, file: &File, id: &ImageId) -> Result<()> {
        file::sync(file, || self.directory.path_of(id.as_file_name()))?;
        self.directory.sync()?;
        // Another process may have created the directory, and died.
        own_directory(self.layout)?.sync()
    }

    /// Removes the pin of a holder, if there is one.
    pub fn remove(&self, lock: &CacheLockGuard<'_>, id: &ImageId, holder: &[u8]) -> Result<()> {
        lock.check_held()?;
        let Some(file) = self.directory.open_to_write(id.as_file_name())? else { return Ok(()) };
        let mut slots = self.slots(&file, id)?;
        self.clear_replaced(&file, id, &mut slots)?;
        if let Some(place) = slots.iter().position(|slot| matches!(slot, Slot::Pin(pin) if pin.holder == holder)) {
            self.write(&file, id, place, &[0; LENGTH])?;
            slots[place] = Slot::Free;
        }
        if self.count(id, &slots)?.is_empty() { self.remove_all(lock, id) } else { Ok(()) }
    }

    /// Removes all pins of an image.
    pub fn remove_all(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<()> {
        lock.check_held()?;
        self.directory.remove(id.as_file_name()).map(drop)
    }

    /// Removes the damaged records of an image, and its file if no pin is left.
    pub fn tidy(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<()> {
        lock.check_held()?;
        let Some(file) = self.directory.open_to_write(id.as_file_name())? else { return Ok(()) };
        if !FileStat::of(&file, || self.directory.path_of(id.as_file_name()))?.is_regular {
            return self.remove_all(lock, id);
        }
        let slots = self.slots(&file, id)?;
        let pins = self.count(id, &slots)?;
        if pins.pins.is_empty() {
            return self.remove_all(lock, id);
        }
        for (place, _) in (0..).zip(&slots).filter(|(_, slot)| matches!(slot, Slot::Unreadable)) {
            self.write(&file, id, place, &[0; LENGTH])?;
        }
        Ok(())
    }

    /// The pins that count.
    fn count(&self, id: &ImageId, slots: &[Slot]) -> Result<ImagePins> {
        let mut counted = ImagePins::default();
        for slot in slots {
            match slot {
                Slot::Free | Slot::Replaced => {}
                Slot::Unreadable => {
                    counted.damaged += 1;
                    counted.until = i64::MAX;
                }
                Slot::Pin(pin) => {
                    let Some(left) = pin.left(self.now()) else { continue };
                    if self.has_ended(pin)? {
                        continue;
                    }
                    counted.until = counted.until.max(pin.until(self.now(), left));
                    counted.pins.push((pin.clone(), left));
                }
            }
        }
        if counted.damaged > 0 {
            let path = self.directory.path_of(id.as_file_name());
            self.log.warning(|| format!("a pin is damaged, and counts until a clean removes it: '{}'", path.display()));
        }
        Ok(counted)
    }

    fn has_ended(&self, pin: &PinRecord) -> Result<bool> {
        match pin.time {
            PinTime::Seconds(_) => Ok(pin.left(self.now()).is_none()),
            PinTime::Process { byte, .. } => self.has_died(byte),
        }
    }

    /// Whether no process has that byte locked.
    fn has_died(&self, byte: u64) -> Result<bool> {
        let name = OsStr::new(PROCESSES);
        if self.processes.get().is_none() {
            let _ = self.processes.set(self.directory.open_file(name)?);
        }
        let Some(Some(processes)) = self.processes.get() else { return Ok(true) };
        let locked = is_locked_at_all(processes, byte);
        locked.map(|is_locked| !is_locked).map_err(|errno| Error::system("lock", &self.directory.path_of(name), errno))
    }

    fn now(&self) -> &Moment {
        self.now.get_or_init(Moment::now)
    }

    fn open_or_create(&self, name: &OsStr) -> Result<(File, bool)> {
        if let Some(file) = self.directory.open_to_write(name)? {
            return Ok((file, false));
        }
        let is_shared = self.layout.directory(Area::Cached).is_shared();
        let created = self.directory.create_private(name, false, is_shared)?;
        created.map(|file| (file, true)).ok_or_else(|| Error::exists("create", &self.directory.path_of(name)))
    }

    fn slots(&self, file: &File, id: &ImageId) -> Result<Vec<Slot>> {
        const STEP: usize = 8 * LENGTH;
        let path = || self.directory.path_of(id.as_file_name());
        if !FileStat::of(file, path)?.is_regular {
            return Ok(vec![Slot::Unreadable]);
        }
        let mut slots = Vec::new();
        while slots.len() < MAX_RECORDS {
            let mut bytes = [0; STEP];
            let length = file::read_at(file, path, (slots.len() * LENGTH) as u64, &mut bytes)?;
            slots.extend(bytes[..length].chunks(LENGTH).map(Slot::from_bytes));
            if length < STEP {
                break;
            }
        }
        mark_replaced(&mut slots);
        Ok(slots)
    }

    fn write(&self, file: &File, id: &ImageId, place: usize, bytes: &[u8; LENGTH]) -> Result<()> {
        let path = || self.directory.path_of(id.as_file_name());
        without_size_signal(|| file::write_at(file, path, (place * LENGTH) as u64, bytes))
    }
}

fn pins_of(slots: &[Slot]) -> impl Iterator<Item = &PinRecord> {
    slots.iter().filter_map(|slot| if let Slot::Pin(pin) = slot { Some(pin) } else { None })
}

/// Marks the pins whose holders have later ones.
fn mark_replaced(slots: &mut [Slot]) {
    let mut latest = HashMap::new();
    for pin in pins_of(slots) {
        let sequence = latest.entry(pin.holder.clone()).or_insert(pin.sequence);
        *sequence = pin.sequence.max(*sequence);
    }
    for slot in slots {
        if matches!(slot, Slot::Pin(pin) if latest.get(&pin.holder).is_some_and(|latest| *latest > pin.sequence)) {
            *slot = Slot::Replaced;
        }
    }
}

fn own_directory(layout: &Layout) -> Result<Directory> {
    layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY).map(|(directory, _)| directory)
}
