//! Finding and opening the cache. Only `create` makes one: a directory that was named by mistake stays as it is.

use std::cell::OnceCell;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use image_cache::{DriverChoice, ImageCache, Log, LogLevel, Options};

use crate::cli::{Driver, Global};
use crate::doctor::foreign::IndexFile;
use crate::exit::{Exit, Failure};
use crate::kept_driver::{KeptDriver, OWN};
use crate::output::Output;
use crate::owner::Owner;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::stop::Stop;

/// The subdirectories that Glance creates, and the library's own one.
const SUBDIRECTORIES: [&str; 3] = ["incomplete", "invalid", "queue"];
const DEFAULT_DATABASE: &str = "cache.db";

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    /// Where results are printed.
    pub output: Output,
    /// Bars on stderr for long work.
    pub progress: Progress,
    /// Whether a signal demands the end.
    pub stop: Stop,
    global: Global,
    settings: OnceCell<Settings>,
    /// Who opens the cache, and by which path.
    owner: OnceCell<(Owner, PathBuf)>,
}

impl Context {
    /// The context of a run.
    pub fn new(global: Global) -> Self {
        let output = Output { json: global.json, no_color: global.no_color };
        let progress = Progress::new(global.no_progress);
        Self { output, progress, stop: Stop::new(), global, settings: OnceCell::new(), owner: OnceCell::new() }
    }

    /// The settings, from arguments, environment and configuration file.
    pub fn settings(&self) -> Result<&Settings, Failure> {
        // Read once: the owner of the cache may not be able to read the file.
        match self.settings.get() {
            Some(settings) => Ok(settings),
            None => Settings::load(&self.global).map(|settings| self.settings.get_or_init(|| settings)),
        }
    }

    /// From now on, root acts as the owner of the directory.
    pub fn act_as_owner(&self, settings: &Settings) -> Result<(), Failure> {
        if self.owner.get().is_none() {
            let owner = Owner::of(&settings.directory)?;
            self.owner.get_or_init(|| owner);
        }
        Ok(())
    }

    /// The path by which the cache is opened. Nobody can replace its directory while root works in it.
    pub fn directory<'a>(&'a self, settings: &'a Settings) -> &'a Path {
        self.owner.get().map_or(&settings.directory, |(_, directory)| directory)
    }

    /// Does something with the rights of the user who runs the program, such as making a file outside of the cache.
    pub fn as_caller<T>(&self, work: impl FnOnce() -> T) -> Result<T, Failure> {
        match self.owner.get() {
            Some((owner, _)) => owner.as_caller(work),
            None => Ok(work()),
        }
    }

    /// Opens the cache, which must exist.
    pub fn open(&self) -> Result<ImageCache, Failure> {
        self.open_with(Ok)
    }

    /// As [`Self::open`], with other options than those of the settings.
    pub fn open_with(
        &self,
        change: impl FnOnce(Options) -> Result<Options, image_cache::Error>,
    ) -> Result<ImageCache, Failure> {
        let settings = self.settings()?;
        check_exists(settings)?;
        self.act_as_owner(settings)?;
        let options = change(self.options(settings)?)?;
        self.opened(settings, options)
    }

    /// Opens a cache, with what to do about a failure.
    pub fn opened(&self, settings: &Settings, options: Options) -> Result<ImageCache, Failure> {
        ImageCache::open(self.directory(settings), options).map_err(|error| match &error {
            image_cache::Error::InvalidArgument(message) if message.starts_with("the cache is used with") => {
                Failure::usage(message.clone())
                    .hint("Leave out the driver to use the directory's own, or see 'convert'.")
            }
            _ => error.into(),
        })
    }

    /// The options of the settings, with the directory's own driver if they name none.
    pub fn options(&self, settings: &Settings) -> Result<Options, Failure> {
        let directory = self.directory(settings);
        let kept = KeptDriver::of(directory)?;
        let database = settings.database.as_deref().or(kept.as_ref().and_then(|kept| kept.database.as_deref()));
        let database = database.unwrap_or(DEFAULT_DATABASE);
        let driver = match (settings.driver, kept.as_ref().map(|kept| kept.driver)) {
            (Some(driver), _) | (None, Some(driver)) => driver.choice(),
            // Glance filled it. Without a database, its images have attributes.
            (None, None) if directory.join(database).is_file() => DriverChoice::Sqlite,
            (None, None) if is_of_glance(directory) => DriverChoice::XattrOrSqlite,
            (None, None) => DriverChoice::Sqlite,
        };
        // Without a limit in the settings there is none, and not the library's default: the agent may have a larger one.
        let mut options =
            Options::new().driver(driver).database(database)?.max_size(settings.max_size.unwrap_or(u64::MAX));
        options = options.min_free(settings.min_free.bytes, settings.min_free.percent)?.log(self.log());
        if let Some(stall_time) = settings.stall_time {
            options = options.stall_time(stall_time);
        }
        if let Some(formats) = &settings.formats {
            options = options.formats(formats)?;
        }
        Ok(options)
    }

    /// Warnings and errors of the library go to stderr; with `--verbose`, the rest as well.
    fn log(&self) -> Log {
        let (output, progress, verbose) = (self.output, self.progress.clone(), self.global.verbose);
        Log::new(move |level, message| {
            let name = match level {
                LogLevel::Error => "error",
                LogLevel::Warning => "warning",
                LogLevel::Info | LogLevel::Debug if !verbose => return,
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            };
            progress.suspend(|| output.message(name, message));
        })
    }
}

/// Fails for a directory that is no cache.
pub fn check_exists(settings: &Settings) -> Result<(), Failure> {
    let directory = &settings.directory;
    let shown = directory.display();
    let to_create = format!("To create one there: image-cachectl -C '{shown}' create");
    match fs::metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(Exit::NoCache, format!("the directory '{shown}' does not exist")).hint(to_create));
        }
        Err(error) => return Err(Failure::io(&format!("open the directory '{shown}'"), &error)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Failure::new(Exit::NoCache, format!("'{shown}' is no directory")));
        }
        Ok(_) => {}
    }
    if let Err(error) = fs::read_dir(directory) {
        return Err(Failure::io(&format!("read the directory '{shown}'"), &error));
    }
    let kept = KeptDriver::of(directory)?;
    let uses_xattr = kept.as_ref().is_some_and(|kept| kept.driver == Driver::Xattr);
    let recorded = kept.as_ref().and_then(|kept| kept.database.as_deref());
    let database = settings.database.as_deref().or(recorded).unwrap_or(DEFAULT_DATABASE);
    let (is_ours, is_of_glance) = (directory.join(OWN).is_dir(), is_of_glance(directory));
    match IndexFile::of(&directory.join(database)) {
        // The xattr driver has no index.
        _ if is_ours && uses_xattr => Ok(()),
        Ok(IndexFile::Foreign(why)) => {
            Err(foreign(directory, database, &why, if is_ours || is_of_glance { Exit::Failed } else { Exit::NoCache }))
        }
        // The library rebuilds its own index, whatever became of it.
        _ if is_ours => Ok(()),
        Ok(IndexFile::Index) => Ok(()),
        Ok(IndexFile::NoDatabase) if is_of_glance => {
            Err(foreign(directory, database, "it is no SQLite database", Exit::Failed))
        }
        _ if is_of_glance => Ok(()),
        _ => Err(Failure::new(Exit::NoCache, format!("the directory '{shown}' has no image cache")).hint(to_create)),
    }
}

/// Fails when another program's database has the name of the index.
pub fn check_index(directory: &Path, database: Option<&str>) -> Result<(), Failure> {
    let database = database.unwrap_or(DEFAULT_DATABASE);
    match IndexFile::of(&directory.join(database)) {
        Ok(IndexFile::Foreign(why)) => Err(foreign(directory, database, &why, Exit::Failed)),
        _ => Ok(()),
    }
}

fn foreign(directory: &Path, database: &str, why: &str, exit: Exit) -> Failure {
    let shown = directory.display();
    Failure::new(exit, format!("'{database}' in the directory '{shown}' is not the index of a cache: {why}"))
        .hint("Move it away, or name another database in the configuration.")
}

fn is_of_glance(directory: &Path) -> bool {
    SUBDIRECTORIES.iter().all(|name| directory.join(name).is_dir())
}
