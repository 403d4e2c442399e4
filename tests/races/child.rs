//! A child process that runs one command per line and replies with one line. A line before the reply says that the
//! command waits for a lock. So two processes reach the same moment without a sleep.

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
    replies: Receiver<String>,
    /// A reply that came before it was read.
    early: RefCell<Option<String>>,
}

impl ChildProcess {
    /// A child process that has no cache open. Its log's violations go to a file in the directory.
    pub fn new(directory: &Path, driver: DriverChoice) -> Self {
        let mut process = TimedChild::start(&["child", directory.to_str().unwrap(), driver_name(driver)]).unwrap();
        let (input, output) = process.take_pipes().unwrap();
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, input, replies, early: RefCell::default() }
    }

    /// Sends a command and does not wait for the reply.
    pub fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Waits for the reply.
    pub fn reply(&self) -> String {
        loop {
            let line = self.next_line();
            if line != BLOCKED {
                return line;
            }
        }
    }

    /// Waits for the reply; returns `None` where the command waits for a lock first.
    pub fn reply_unless_blocked(&self) -> Option<String> {
        Some(self.next_line()).filter(|line| line != BLOCKED)
    }

    pub fn call(&mut self, command: &str) -> String {
        self.send(command);
        self.reply()
    }

    pub fn process(&self) -> &TimedChild {
        &self.process
    }

    pub fn kill(self) {
        self.process.kill();
    }

    /// Whether a line has arrived.
    pub fn has_replied(&self) -> bool {
        let mut early = self.early.borrow_mut();
        *early = early.take().or_else(|| self.replies.try_recv().ok());
        early.is_some()
    }

    fn next_line(&self) -> String {
        if let Some(line) = self.early.take() {
            return line;
        }
        let line = self.replies.recv_timeout(TIMEOUT);
        line.unwrap_or_else(|error| panic!("it does not reply ({error}):\n{}", self.process.thread_states()))
    }
}

/// The child's end.
pub fn run(directory: &Path, driver: DriverChoice) {
    let violations = ViolationLog::new(&directory.join(format!("violations-{}", std::process::id())));
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
        let reply = if let Some(point) = stop_at {
            let stop = || kill_process(getpid(), Signal::STOP).unwrap();
            let (reply, points) = with_interleaved(point, stop, || handles.run(words));
            if points > point { reply } else { format!("after {points} points: {reply}") }
        } else {
            let (sender, progress) = channel();
            let listener = thread::spawn(move || {
                if progress.recv() == Ok(Progress::Blocked) {
                    println!("{BLOCKED}");
                }
            });
            let reply = with_progress(&sender, || handles.run(words));
            // The command sends both when it is blocked and when it has ended; the first one counts.
            listener.join().unwrap();
            reply
        };
        println!("{reply}");
    }
}

/// The handles of a child process.
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
