//! The process that fetches, by its connection to the origin, and how a process is killed.

use std::fs::{read_dir, read_link, read_to_string};
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The process that has the connection from this port to the server.
pub fn holder_of_connection(port: u16, server: SocketAddr) -> Result<u32> {
    let table = read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
    let inode = inode_of_connection(&table, port, server.port()).context("the connection to the origin has ended")?;
    let link = format!("socket:[{inode}]");
    let of_process = |name: &str| {
        let descriptors = read_dir(format!("/proc/{name}/fd")).ok()?;
        let mut links = descriptors.filter_map(|entry| read_link(entry.ok()?.path()).ok());
        links.any(|one| one.as_os_str() == link.as_str()).then(|| name.parse().ok())?
    };
    let processes = read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut holders = processes.filter(|name| name.parse::<u32>().is_ok()).filter_map(|name| of_process(&name));
    holders.next().context("no process has the connection to the origin")
}

/// The socket's inode in the text of /proc/net/tcp. Its columns: number, local and remote address, state, and the inode is the tenth.
fn inode_of_connection(table: &str, local: u16, remote: u16) -> Option<u64> {
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let port = |column: usize| u16::from_str_radix(columns.get(column)?.split_once(':')?.1, 16).ok();
        let is_it = port(1) == Some(local) && port(2) == Some(remote);
        is_it.then(|| columns.get(9)?.parse().ok())?
    })
}

pub fn send(signal: Signal, process: u32) -> Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("no process")?;
    Ok(kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_holder_of_a_connection_is_the_process_of_its_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (port, server) = (client.local_addr().unwrap().port(), listener.local_addr().unwrap());
        assert_eq!(holder_of_connection(port, server).unwrap(), std::process::id());
        drop(client);
        assert!(holder_of_connection(port, server).is_err());
    }

    #[test]
    fn a_connection_is_found_by_both_of_its_ports() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
           0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 77 1 0 20 0 0 10 -1
           1: 0100007F:C351 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 76 1 0 20 0 0 10 -1
           2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 78 1 0 20 0 0 10 -1";
        assert_eq!(inode_of_connection(table, 0xC350, 0x1F90), Some(78));
        assert_eq!(inode_of_connection(table, 0xC350, 0x1F91), None);
    }
}
