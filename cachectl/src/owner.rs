//! Root acts as the owner of the cache's directory. Files that it makes there are the agents' then: root's own would keep them out.
//!
//! Files of the caller, such as the target of an export, are made with the caller's rights: see [`Owner::as_caller`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups, initgroups, setegid, seteuid, setgroups};

use crate::exit::Failure;
use crate::trusted_path::{TrustedPath, failed as untrusted};

/// Who the process acts as.
#[derive(Debug, Clone, Default)]
pub struct Owner(Option<Changed>);

#[derive(Debug, Clone)]
struct Changed {
    owner: Identity,
    caller: Identity,
}

#[derive(Debug, Clone)]
struct Identity {
    user: Uid,
    group: Gid,
    groups: Groups,
}

#[derive(Debug, Clone)]
enum Groups {
    /// All groups of the user of that name.
    OfUser(std::ffi::CString),
    These(Vec<Gid>),
}

impl Owner {
    /// From now on, root acts as the owner of a directory. Other users, and root in its own directory, stay who they are. Also returns the
    /// path to open: root keeps its rights only where no other user can replace the directory between this decision and the open.
    pub fn of(directory: &Path) -> Result<(Self, PathBuf), Failure> {
        if !geteuid().is_root() {
            return Ok((Self::default(), directory.to_owned()));
        }
        let failed_to_open = |error| Failure::io(&format!("open the directory '{}'", directory.display()), &error);
        let metadata = fs::metadata(directory).map_err(failed_to_open)?;
        if metadata.uid() == 0 {
            let trusted = TrustedPath::open(directory, 0)?;
            return match trusted.owner() {
                Ok(0) => Ok((Self::default(), trusted.path())),
                Ok(_) => Err(untrusted(directory, &io::Error::other("its owner has changed"))),
                Err(error) => Err(untrusted(directory, &error)),
            };
        }
        Ok((Self::become_user(metadata.uid(), metadata.gid())?, directory.to_owned()))
    }

    /// The same, as a user. The group is that of a user without a name.
    fn become_user(user: u32, group: u32) -> Result<Self, Failure> {
        if !geteuid().is_root() || user == 0 {
            return Ok(Self::default());
        }
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let known = User::from_uid(user).ok().flatten();
        let owner = Identity {
            user,
            group: known.as_ref().map_or(group, |known| known.gid),
            groups: known
                .and_then(|known| std::ffi::CString::new(known.name).ok())
                .map_or_else(|| Groups::These(vec![group]), Groups::OfUser),
        };
        let groups = Groups::These(getgroups().map_err(|errno| failed(&owner, errno))?);
        let caller = Identity { user: geteuid(), group: getegid(), groups };
        owner.become_it().map_err(|errno| failed(&owner, errno))?;
        Ok(Self(Some(Changed { owner, caller })))
    }

    /// Does something with the rights of the caller.
    pub fn as_caller<T>(&self, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let Some(Changed { owner, .. }) = &self.0 else { return Ok(work()) };
        self.end()?;
        let done = work();
        owner.become_it().map_err(|errno| failed(owner, errno))?;
        Ok(done)
    }

    /// The process is the caller again.
    fn end(&self) -> Result<(), Failure> {
        let Some(Changed { caller, .. }) = &self.0 else { return Ok(()) };
        // First the user: only root may change groups.
        let back = seteuid(caller.user).and_then(|()| caller.become_it());
        back.map_err(|errno| failed(caller, errno))
    }
}

/// Root does something with the rights of the user and group that own a directory. Other users do it with their own.
pub fn as_user<T>(user: u32, group: u32, work: impl FnOnce() -> T) -> Result<T, Failure> {
    let changed = Owner::become_user(user, group)?;
    let done = work();
    changed.end()?;
    Ok(done)
}

impl Identity {
    /// Called as root.
    fn become_it(&self) -> Result<(), Errno> {
        match &self.groups {
            Groups::OfUser(name) => initgroups(name, self.group)?,
            Groups::These(groups) => setgroups(groups)?,
        }
        setegid(self.group)?;
        seteuid(self.user)
    }
}

fn failed(identity: &Identity, errno: Errno) -> Failure {
    let user = identity.user;
    Failure::io(&format!("act as the owner of the directory, user {user}"), &errno.into())
}

/// Parses `USER` or `USER:GROUP`, by names or numbers. Without a group, it is that of the user.
pub fn parse(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let by_name = User::from_name(user).ok().flatten();
    let known = by_name.or_else(|| User::from_uid(Uid::from_raw(user.parse().ok()?)).ok().flatten());
    let uid = known.as_ref().map(|known| known.uid.as_raw()).or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| format!("there is no user {user:?}"))?;
    let gid = match group {
        Some(group) => {
            let by_name = Group::from_name(group).ok().flatten().map(|known| known.gid.as_raw());
            by_name.or_else(|| group.parse().ok()).ok_or_else(|| format!("there is no group {group:?}"))?
        }
        None => known
            .map(|known| known.gid.as_raw())
            .ok_or_else(|| format!("user {user:?} has no group: write USER:GROUP"))?,
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        assert_eq!(parse("root"), Ok((0, 0)));
        assert_eq!(parse("0:0"), Ok((0, 0)));
        assert_eq!(parse("4000000:4000001"), Ok((4_000_000, 4_000_001)));
        assert!(parse("no such user").is_err() && parse("root:no such group").is_err() && parse("4000000").is_err());
    }
}
