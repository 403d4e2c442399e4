//! A caching server as its Debian package has it, on a free port, with a configuration and files in a directory of the benchmark.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::storm::processes::send;

/// How long a server may take to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server works.
pub struct Place {
    /// Its own directory, which exists.
    pub directory: PathBuf,
    pub port: u16,
    pub origin: SocketAddr,
}

/// How a peer is started.
pub struct Recipe {
    pub name: &'static str,
    pub program: &'static str,
    pub package: &'static str,
    /// Writes the configuration, and adds the arguments to the command. The program must stay in the foreground.
    pub configure: fn(&Place, &mut Command) -> Result<()>,
}

/// A running server. It ends with this value.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    name: &'static str,
}

impl Recipe {
    pub fn start(&self, directory: &Path, origin: SocketAddr) -> Result<Server> {
        let Some(program) = find_program(self.program) else {
            bail!("the program {} is missing (Debian package {})", self.program, self.package);
        };
        std::fs::create_dir(directory)?;
        let port = free_port()?;
        let place = Place { directory: directory.to_owned(), port, origin };
        // The kernel ends the server if this program is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).current_dir(directory);
        (self.configure)(&place, &mut command)?;
        let log = directory.join("output.log");
        let output = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().context("setpriv, of util-linux, cannot be run")?;
        let mut server = Server { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), process, name: self.name };
        server.wait_until_it_accepts(&log)?;
        Ok(server)
    }
}

impl Server {
    fn wait_until_it_accepts(&mut self, log: &Path) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let has_ended = self.process.try_wait()?.is_some();
            if has_ended || Instant::now() > end {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let what = if has_ended { "has ended" } else { "does not accept connections" };
                bail!("{} {what}: {}", self.name, text.lines().last().unwrap_or("without output"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for its end.
    fn has_ended_within(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            match self.process.try_wait() {
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The first process ends its others.
        let _ = send(Signal::TERM, self.process.id());
        if !self.has_ended_within(PATIENCE) {
            eprintln!("  ({} does not end, and is killed)", self.name);
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// A program in PATH, or where Debian has those of administrators.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// A port that nobody has at present.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(program: &'static str, configure: fn(&Place, &mut Command) -> Result<()>) -> Recipe {
        Recipe { name: "A server", program, package: "its-package", configure }
    }

    fn failure(recipe: &Recipe) -> String {
        let directory = tempfile::tempdir().unwrap();
        let started = recipe.start(&directory.path().join("server"), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        started.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let text = failure(&recipe("no-such-program", |_, _| Ok(())));
        assert_eq!(text, "the program no-such-program is missing (Debian package its-package)");
    }

    #[test]
    fn a_server_that_ends_at_its_start_is_reported_with_its_last_line() {
        let text = failure(&recipe("sh", |_, command| {
            command.args(["-c", "echo one; echo a wrong line >&2; exit 1"]);
            Ok(())
        }));
        assert_eq!(text, "A server has ended: a wrong line");
    }
}
