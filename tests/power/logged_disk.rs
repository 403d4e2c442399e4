//! A disk that records the order of its writes and flushes: one file of a FUSE file system, under a loop device.
//!
//! A loop device passes a flush on as `fsync`, and has no other way to make a write durable.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::disk::Disk;
use crate::volume::unmount_when_free;

/// Why this machine cannot have such a disk.
pub fn missing_requirement() -> Option<String> {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    opened.err().map(|error| format!("there is no FUSE: {error}"))
}

/// A command to the disk.
#[derive(Debug, Clone)]
pub enum Command {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// All writes before this command are durable.
    Flush,
}

/// The disk's contents, and the commands that led to them.
#[derive(Debug)]
pub struct Recording {
    disk: Disk,
    pub log: Vec<Command>,
}

/// The mounted disk, which records.
pub struct LoggedDisk {
    session: BackgroundSession,
    recording: Arc<Mutex<Recording>>,
    point: PathBuf,
    /// The file for the loop device.
    pub path: PathBuf,
}

impl LoggedDisk {
    pub fn mount(disk: Disk, point: &Path) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        let recording = Arc::new(Mutex::new(Recording { disk, log: Vec::new() }));
        let session = fuser::spawn_mount(Files(Arc::clone(&recording)), point, &Config::default())?;
        Ok(Self { session, recording, point: point.to_owned(), path: point.join(NAME) })
    }

    /// How many commands the disk has received.
    pub fn position(&self) -> usize {
        locked(&self.recording).log.len()
    }

    /// Ends the recording.
    pub fn unmount(self) -> Result<Vec<Command>> {
        unmount_when_free(&self.point)?;
        self.session.join()?;
        Ok(std::mem::take(&mut locked(&self.recording).log))
    }
}

fn locked(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// Only the disk itself changes its metadata.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

struct Files(Arc<Mutex<Recording>>);

impl Files {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_disk = inode == FILE;
        let size = if is_disk { locked(&self.0).disk.length } else { 0 };
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if is_disk { FileType::RegularFile } else { FileType::Directory },
            perm: if is_disk { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == NAME {
            reply.entry(&FOR_EVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes(inode));
    }

    /// Without the page cache: commands arrive here in the order in which the loop device sends them.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = &locked(&self.0).disk;
        let length = u64::from(size).min(disk.length.saturating_sub(offset));
        reply.data(&disk.read(offset, usize::try_from(length).expect("it came from 32 bits")));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut recording = locked(&self.0);
        recording.disk.write(offset, data);
        recording.log.push(Command::Write { offset, bytes: data.to_vec() });
        reply.written(u32::try_from(data.len()).expect("a request is short"));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        locked(&self.0).log.push(Command::Flush);
        reply.ok();
    }
}
