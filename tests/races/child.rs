//! A child process on input: it does what it is told, line by line, and answers with one line, before which it may say that
//! it has to wait for a lock. So two processes come to the same moment without anybody's sleeping.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use image_cache::{DriverChoice, Durability, Error, ImageCache, Options, Reader, Writer};
use rustix::process::{Signal, getpid, kill_process};

use crate::caches::{ViolationLog, name_of};
use crate::checks::check_listing;
use crate::driver_name;
use crate::points::{Progress, with_interleaved, with_progress};
use crate::timed_child::{TIMEOUT, TimedChild};

const BLOCKED: &str = "blocked";

/// The parent's end.
pub struct ChildProcess {
    process: TimedChild,
    input: ChildStdin,
    answers: Receiver<String>,
    /// One that came while nobody asked for it.
    early: RefCell<Option<String>>,
}

impl ChildProcess {
    /// One that has nothing open yet. What its log should not say goes to a file in the folder.
    pub fn new(folder: &Path, driver: DriverChoice) -> Self {
        let mut process = TimedChild::start(&["child", folder.to_str().unwrap(), driver_name(driver)]).unwrap();
        let (input, output) = process.take_pipes().unwrap();
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, input, answers, early: RefCell::default() }
    }

    /// Tells it to do something; it may take its time.
    pub fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// What it came to.
    pub fn answer(&self) -> String {
        loop {
            let line = self.next_line();
            if line != BLOCKED {
                return line;
            }
        }
    }

    /// What it came to, or `None` when it has to wait for a lock first.
    pub fn answer_unless_blocked(&self) -> Option<String> {
        Some(self.next_line()).filter(|line| line != BLOCKED)
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    pub fn process(&self) -> &TimedChild {
        &self.process
    }

    pub fn kill(self) {
        self.process.kill();
    }

    /// Whether it has said something.
    pub fn has_answered(&self) -> bool {
        let mut early = self.early.borrow_mut();
        *early = early.take().or_else(|| self.answers.try_recv().ok());
        early.is_some()
    }

    fn next_line(&self) -> String {
        if let Some(line) = self.early.take() {
            return line;
        }
        let line = self.answers.recv_timeout(TIMEOUT);
        line.unwrap_or_else(|error| panic!("it does not answer ({error}):\n{}", self.process.thread_states()))
    }
}

/// The child's end.
pub fn run(folder: &Path, driver: DriverChoice) {
    let violations = ViolationLog::new(&folder.join(format!("violations-{}", std::process::id())));
    let options =
        Options::new().driver(driver).durability(Durability::None).log(violations.log("a child's cache", false));
    let mut handles =
        Handles { options, directory: PathBuf::new(), cache: None, writers: HashMap::new(), readers: HashMap::new() };
    for line in io::stdin().lines().map_while(Result::ok) {
        let words: Vec<_> = line.split(' ').collect();
        let (stop_at, words) = match &words[..] {
            ["stop-at", point, words @ ..] => (Some(point.parse().unwrap()), words),
            words => (None, words),
        };
        let answer = if let Some(point) = stop_at {
            let stop = || kill_process(getpid(), Signal::STOP).unwrap();
            let (answer, points) = with_interleaved(point, stop, || handles.run(words));
            if points > point { answer } else { format!("after {points} points: {answer}") }
        } else {
            let (sender, told) = channel();
            let listener = thread::spawn(move || {
                if told.recv() == Ok(Progress::Blocked) {
                    println!("{BLOCKED}");
                }
            });
            let answer = with_progress(&sender, || handles.run(words));
            // When it is blocked and when it has ended are two words; the first one is enough.
            listener.join().unwrap();
            answer
        };
        println!("{answer}");
    }
}

/// What a child holds.
struct Handles {
    options: Options,
    directory: PathBuf,
    cache: Option<ImageCache>,
    writers: HashMap<String, Writer>,
    readers: HashMap<String, Reader>,
}

impl Handles {
    fn run(&mut self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|error| name_of(&error))
    }

    fn try_run(&mut self, words: &[&str]) -> Result<String, Error> {
        if let ["open", directory, max_size] = words {
            let options = self.options.clone().max_size(max_size.parse().unwrap());
            self.directory = directory.into();
            self.cache = Some(ImageCache::open(directory, options)?);
            return Ok("ok".to_owned());
        }
        let cache = self.cache.as_ref().unwrap();
        match *words {
            ["begin", id] => drop(self.writers.insert(id.to_owned(), cache.begin_write(id)?)),
            ["write", id, text] => self.writers.get_mut(id).unwrap().write_chunk(text.as_bytes())?,
            ["commit", id] => self.writers.remove(id).unwrap().commit()?,
            ["cache", id, text] => {
                let mut writer = cache.begin_write(id)?;
                writer.write_chunk(text.as_bytes())?;
                writer.commit()?;
            }
            ["open_for_read", id] => drop(self.readers.insert(id.to_owned(), cache.open_for_read(id)?)),
            ["rest", id] => {
                let mut text = String::new();
                self.readers.remove(id).unwrap().read_to_string(&mut text).unwrap();
                return Ok(text);
            }
            ["read", id] => {
                let mut text = String::new();
                cache.open_for_read(id)?.read_to_string(&mut text).unwrap();
                return Ok(text);
            }
            ["delete", id] => cache.delete_cached_image(id)?,
            ["prune"] => return Ok(cache.prune()?.images.to_string()),
            ["clean"] => return Ok(cache.clean(crate::caches::AT_ONCE)?.to_string()),
            ["queue", id] => return Ok(cache.queue_image(id)?.to_string()),
            ["prefetch"] => {
                let prefetched = cache.prefetch(|id, writer| writer.write_chunk(id.as_bytes()))?;
                assert_eq!(prefetched.failed, 0);
                return Ok(prefetched.fetched.to_string());
            }
            ["size"] => return Ok(cache.cache_size()?.to_string()),
            ["hits", id] => return Ok(cache.hit_count(id)?.to_string()),
            ["list"] => {
                let mut text = String::new();
                cache.list_cached()?.for_each(|image| write!(text, "{} ", image.image_id).unwrap());
                return Ok(text.trim_end().to_owned());
            }
            ["check"] => {
                check_listing(&self.directory, cache).unwrap();
            }
            ["close"] => self.cache = None,
            _ => panic!("no child knows how to {words:?}"),
        }
        Ok("ok".to_owned())
    }
}
