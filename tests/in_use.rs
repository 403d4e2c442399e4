//! Images in use: prune, `make_room` and `delete_unused_image` leave what anybody has open.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use image_cache::{DriverChoice, Error, ImageCache, Options};
use libtest_mimic::{Arguments, Completion, Trial};
use nix::libc;

use common::{DRIVERS, Scratch, cache_image, ids, read_image};

/// Has this program act as another process: `ROLE DRIVER DIRECTORY`.
const ROLE: &str = "IMAGE_CACHE_IN_USE_ROLE";

const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        act(&role);
        return ExitCode::SUCCESS;
    }
    let both = |name: &str, test: fn(DriverChoice) -> Completion| {
        DRIVERS.map(|driver| Trial::ignorable_test(format!("{name} ({driver:?})"), move || Ok(test(driver))))
    };
    let trials = [
        both("an_image_with_a_reader_is_not_evicted_and_others_are_in_its_place", this_process),
        both("an_image_that_a_reader_of_another_process_has_open_is_not_evicted", another_process),
        both("the_image_of_a_reader_that_was_killed_is_evicted", killed),
        both("an_image_that_another_program_has_open_is_not_evicted", foreign_program),
        both("an_image_that_a_user_who_may_only_read_has_open_is_not_evicted", only_reader),
        both("an_image_that_qemu_has_open_by_its_path_is_not_evicted", qemu),
        both("an_image_that_is_mapped_is_not_evicted", mapped),
        both("an_image_that_is_open_under_another_name_is_not_evicted", another_name),
        both("another_users_image_is_in_use_if_it_is_locked", another_users_image),
        both("room_that_needs_images_in_use_is_refused_with_their_bytes", make_room),
        both("a_leased_image_is_not_cached_for_readers_and_nobody_waits", leased),
        both("readers_beside_a_prune_get_the_whole_image_or_none", readers_beside_a_prune),
        both("opens_of_others_send_no_signal_to_a_process_that_takes_a_lease", |driver| {
            signals(driver, "prune", TAKEN)
        }),
        both("opens_of_others_send_no_signal_to_a_process_that_has_a_lease", |driver| signals(driver, "prune", HELD)),
        both("the_hosts_handler_gets_no_signal_while_a_lease_is_taken", |driver| {
            signals(driver, "prune_with_handler", TAKEN)
        }),
        both("the_hosts_handler_gets_no_signal_while_there_is_a_lease", |driver| {
            signals(driver, "prune_with_handler", HELD)
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

// ---- Other processes ----------------------------------------------------------------------------------------------------------------

fn as_role(role: &str, driver: DriverChoice, scratch: &Scratch) -> Command {
    let driver = if driver == DriverChoice::Sqlite { "sqlite" } else { "xattr" };
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, format!("{role} {driver} {}", scratch.path().display()));
    command
}

fn act(role: &str) {
    let [role, driver, directory] = role.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let driver = if driver == "sqlite" { DriverChoice::Sqlite } else { DriverChoice::Xattr };
    let open = || ImageCache::open(directory, Options::new().driver(driver)).unwrap();
    match role {
        "read" => {
            let cache = open();
            let _reader = cache.open_for_read("open").unwrap();
            println!("read");
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        "read_and_verify" => read_and_verify(&open()),
        "evict" => println!("{}", open().prune_to(0).unwrap().images),
        "prune" => evict_often(&open(), libc::SIG_DFL),
        "prune_with_handler" => {
            evict_often(&open(), count_signal as *const () as libc::sighandler_t);
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 0, "signals came to the host");
            // The host's own signals do come.
            // SAFETY: the call takes a number.
            unsafe { libc::raise(libc::SIGIO) };
            assert_eq!(SIGNALS.load(Ordering::Relaxed), 1);
        }
        _ => panic!("{role}"),
    }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Starts a process that prints a line with "read" once it has the image open, and ends with its input.
fn start(command: &mut Command) -> Option<Child> {
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        started => started.unwrap(),
    };
    // For qemu-io; the other processes wait for the end only.
    child.stdin.as_mut().unwrap().write_all(b"read 0 512\n").unwrap();
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("read")), "it has not opened the image");
    Some(child)
}

/// A program that opens the image by its path, for reading, and knows nothing of caches.
fn reading_shell(scratch: &Scratch) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<\"$0\"; echo read; exec cat"]).arg(scratch.file("open"));
    command
}

fn close_input(child: &mut Child) {
    drop(child.stdin.take());
}

// ---- Who has it open ----------------------------------------------------------------------------------------------------------------

fn two_images(scratch: &Scratch) -> ImageCache {
    let cache = scratch.open();
    cache_image(&cache, "open", &[1; 4096]);
    cache_image(&cache, "other", &[2; 4096]);
    cache
}

/// Everything that evicts leaves the image as long as it is open.
fn check_in_use(scratch: &Scratch, cache: &ImageCache) {
    assert!(!cache.delete_unused_image("open").unwrap());
    assert_eq!(cache.prune_to(0).unwrap().images, 1);
    assert_eq!((ids(cache), read_image(cache, "open")), (vec!["open".to_owned()], vec![1; 4096]));
    assert_eq!((cache.prune_to(0).unwrap().images, cache.prune_to(4095).unwrap().images), (0, 0));
    assert!(scratch.logged("1 images of 4096 bytes are in use"));
    let path = cache.open_for_read("open").unwrap().path().unwrap().to_owned();
    assert_eq!((std::fs::read(&path).unwrap(), path), (vec![1; 4096], scratch.file("open").canonicalize().unwrap()));
}

fn check_unused(cache: &ImageCache) {
    assert_eq!(cache.prune_to(0).unwrap().images, 1);
    assert!(ids(cache).is_empty());
}

/// Evicts everything while a process has the image open, and again after `end`.
fn evict_beside(scratch: &Scratch, command: &mut Command, end: fn(&mut Child)) -> Completion {
    let cache = two_images(scratch);
    let Some(mut child) = start(command) else { return Completion::ignored_with(format!("{command:?} is missing")) };
    check_in_use(scratch, &cache);
    end(&mut child);
    child.wait().unwrap();
    check_unused(&cache);
    Completion::Completed
}

fn this_process(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    let cache = two_images(&scratch);
    let reader = scratch.open().open_for_read("open").unwrap();
    check_in_use(&scratch, &cache);
    drop(reader);
    check_unused(&cache);
    Completion::Completed
}

fn another_process(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    evict_beside(&scratch, &mut as_role("read", driver, &scratch), close_input)
}

fn killed(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    evict_beside(&scratch, &mut as_role("read", driver, &scratch), |child| child.kill().unwrap())
}

fn foreign_program(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    evict_beside(&scratch, &mut reading_shell(&scratch), close_input)
}

fn only_reader(driver: DriverChoice) -> Completion {
    if !rustix::process::geteuid().is_root() {
        return Completion::ignored_with("needs root, to act as another user");
    }
    let scratch = Scratch::new(driver);
    let parent = scratch.path().parent().unwrap().to_owned();
    std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755)).unwrap();
    evict_beside(&scratch, reading_shell(&scratch).uid(NOBODY).gid(NOBODY), close_input)
}

fn qemu(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    evict_beside(&scratch, Command::new("qemu-io").args(["-r", "-f", "raw"]).arg(scratch.file("open")), close_input)
}

fn mapped(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    let cache = two_images(&scratch);
    let reader = cache.open_for_read("open").unwrap();
    let number = reader.descriptor().unwrap().as_raw_fd();
    // SAFETY: a new mapping, of an open file.
    let mapping = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, number, 0) };
    assert_ne!(mapping, libc::MAP_FAILED);
    drop(reader);
    check_in_use(&scratch, &cache);
    // SAFETY: it is the mapping from above, which nobody uses.
    assert_eq!(unsafe { libc::munmap(mapping, 4096) }, 0);
    check_unused(&cache);
    Completion::Completed
}

fn another_name(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    let cache = two_images(&scratch);
    let other = scratch.path().with_extension("other");
    std::fs::hard_link(scratch.file("open"), &other).unwrap();
    let writer = File::options().append(true).open(other).unwrap();
    check_in_use(&scratch, &cache);
    drop(writer);
    check_unused(&cache);
    Completion::Completed
}

/// A process that owns the directory, but not the image, gets no lease. It sees locks, and evicts as ever without one.
fn another_users_image(driver: DriverChoice) -> Completion {
    if !rustix::process::geteuid().is_root() {
        return Completion::ignored_with("needs root, to act as another user");
    }
    let scratch = Scratch::new(driver);
    drop(two_images(&scratch));
    let parent = scratch.path().parent().unwrap().to_owned();
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(&parent).status().unwrap().success());
    chown(scratch.file("open"), Some(0), Some(0)).unwrap();
    let user = File::open(scratch.file("open")).unwrap();
    // SAFETY: all fields are integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK.try_into().unwrap();
    (lock.l_start, lock.l_len) = (100, 1);
    nix::fcntl::fcntl(&user, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    let evict = || {
        let output = as_role("evict", driver, &scratch).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!((evict().trim(), scratch.file("open").exists()), ("1", true));
    drop(user);
    assert_eq!((evict().trim(), scratch.file("open").exists()), ("1", false));
    Completion::Completed
}

fn make_room(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().max_size(10_000));
    cache_image(&cache, "open", &[1; 4096]);
    cache_image(&cache, "other", &[2; 4096]);
    let reader = cache.open_for_read("open").unwrap();
    let error = cache.make_room(6000).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }) && error.to_string().contains("1 images of 4096 bytes are in use"));
    assert_eq!(ids(&cache), ["open", "other"], "nothing is evicted in vain");
    assert_eq!(cache.make_room(5000).unwrap().images, 1);
    assert_eq!(ids(&cache), ["open"]);
    drop(reader);
    assert_eq!(cache.make_room(6000).unwrap().images, 1);
    Completion::Completed
}

// ---- Opens and evictions at the same time -------------------------------------------------------------------------------------------

/// Takes a lease as a process that is stopped while it evicts the image has it.
fn lease(file: &File) {
    let number = file.as_raw_fd();
    // SAFETY: the calls take numbers. Without an owner, nobody gets a signal.
    let taken = unsafe {
        libc::fcntl(number, libc::F_SETLEASE, libc::F_WRLCK) == 0 && libc::fcntl(number, libc::F_SETOWN, 0) == 0
    };
    assert!(taken, "{}", std::io::Error::last_os_error());
}

fn leased(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    let cache = two_images(&scratch);
    let stopped = File::open(scratch.file("open")).unwrap();
    lease(&stopped);
    assert!(matches!(cache.open_for_read("open"), Err(Error::NotFound { .. })));
    assert!(cache.is_cached("open").unwrap());
    assert_eq!(cache.image_size("open").unwrap(), 4096);
    assert_eq!(ids(&cache), ["open", "other"]);
    assert!(!cache.delete_unused_image("open").unwrap());
    assert_eq!(cache.prune_to(0).unwrap().images, 1);
    assert_eq!(ids(&cache), ["open"]);
    // It is killed.
    drop(stopped);
    assert_eq!(read_image(&cache, "open"), [1; 4096]);
    check_unused(&cache);
    Completion::Completed
}

/// The tests whose processes never wait: one at a time.
static BUSY: Mutex<()> = Mutex::new(());

const IDS: [&str; 4] = ["0", "1", "2", "3"];
const LENGTH: usize = 20_000;

/// Each image has one byte only, which is another one each time.
fn read_and_verify(cache: &ImageCache) {
    println!("read");
    let (mut served, mut input) = (0_u64, std::io::stdin());
    rustix::io::ioctl_fionbio(&input, true).unwrap();
    while !matches!(input.read(&mut [0; 64]), Ok(0)) {
        for id in IDS {
            let mut reader = match cache.open_for_read(id) {
                Err(Error::NotFound { .. }) => continue,
                opened => opened.unwrap(),
            };
            assert!(cache.is_cached(id).unwrap(), "it was evicted while it was open");
            assert_eq!(std::fs::metadata(reader.path().unwrap()).unwrap().len(), LENGTH as u64);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() == LENGTH && bytes.iter().all(|byte| *byte == bytes[0]));
            served += 1;
        }
    }
    println!("{served}");
}

fn readers_beside_a_prune(driver: DriverChoice) -> Completion {
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut readers = [(); 2].map(|()| start(&mut as_role("read_and_verify", driver, &scratch)).unwrap());
    let mut evicted = 0;
    for round in 0_u8..200 {
        for id in IDS {
            match cache.begin_write(id) {
                Err(Error::AlreadyCached(_)) => {}
                begun => {
                    let mut writer = begun.unwrap();
                    writer.write_chunk(&vec![round; LENGTH]).unwrap();
                    writer.commit().unwrap();
                }
            }
        }
        evicted += cache.prune_to(0).unwrap().images;
    }
    for reader in &mut readers {
        close_input(reader);
        let mut served = String::new();
        reader.stdout.take().unwrap().read_to_string(&mut served).unwrap();
        assert!(reader.wait().unwrap().success());
        println!("swept: {driver:?}: {} readers beside {evicted} evictions", served.trim());
    }
    cache.prune_to(0).unwrap();
    assert_eq!(cache.cache_size().unwrap(), 0);
    Completion::Completed
}

/// Evicts one image again and again, until the input ends.
fn evict_often(cache: &ImageCache, handler: libc::sighandler_t) {
    // SAFETY: the handler, if there is one, only adds to a number.
    assert_ne!(unsafe { libc::signal(libc::SIGIO, handler) }, libc::SIG_ERR);
    println!("read");
    let mut input = std::io::stdin();
    rustix::io::ioctl_fionbio(&input, true).unwrap();
    while !matches!(input.read(&mut [0; 64]), Ok(0)) {
        match cache.begin_write("open") {
            Err(Error::AlreadyCached(_)) => {}
            begun => {
                let mut writer = begun.unwrap();
                writer.write_chunk(&[1; 100]).unwrap();
                writer.commit().unwrap();
            }
        }
        cache.prune_to(0).unwrap();
        cache.delete_unused_image("open").unwrap();
    }
}

/// Makes a process slow where it has just taken a lease, and its thread still is the owner.
const TAKEN: [&str; 4] = ["-e", "trace=fcntl", "-e", "inject=fcntl:delay_exit=1000"];

/// Makes a process slow where it removes what it has leased, and nobody is the owner.
const HELD: [&str; 4] = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:delay_enter=1000"];

/// Opens an image until that has met leases of a process that is made slow by strace.
fn signals(driver: DriverChoice, role: &str, slow: [&str; 4]) -> Completion {
    const LEASES: usize = 20;
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(driver);
    drop(scratch.open());
    let role = as_role(role, driver, &scratch);
    let mut slowed = Command::new("strace");
    slowed.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]).args(slow).arg(std::env::current_exe().unwrap());
    slowed.envs(role.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Some(mut child) = start(&mut slowed) else { return Completion::ignored_with("strace is missing") };
    let mut met = 0;
    while met < LEASES && child.try_wait().unwrap().is_none() {
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(scratch.file("open"));
        met += usize::from(opened.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        // This one waits for the lease.
        let _ = File::open(scratch.file("open"));
    }
    close_input(&mut child);
    let status = child.wait().unwrap();
    assert!(status.success(), "signal {:?}", status.signal());
    assert_eq!(met, LEASES);
    Completion::Completed
}
