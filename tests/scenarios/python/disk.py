"""Real faults: small disks and read-only directories, in a mount namespace of the scenario's process.

Python has mount(2) in no version, so the C library is called.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Callable, Optional, Union

from line import system
from state import Scenario, Skip

NO_USER_ATTRIBUTES = "no user attributes on this file system"
MAY_NOT_MOUNT = "mounting is not permitted here"

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_has_namespace = False


def has_user_attributes(directory: Union[str, bytes]) -> bool:
    try:
        os.setxattr(directory, "user.scenario", b"1")
        os.removexattr(directory, "user.scenario")
    except OSError:
        return False
    return True


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(source: bytes, target: bytes, kind: bytes, flags: int, options: Optional[bytes] = None) -> None:
    _check(_libc.mount(source, target, kind, flags, options))


def _enter_namespace() -> None:
    """Makes later mounts private to this process, once. Root of a user namespace may mount there."""
    global _has_namespace
    if _has_namespace:
        return
    if _libc.unshare(CLONE_NEWNS) != 0:
        user, group = os.geteuid(), os.getegid()
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{file}", "w") as map_:
                map_.write(text)
    _mount(b"none", b"/", b"none", MS_REC | MS_PRIVATE)
    _has_namespace = True


def _mounting(mount: Callable[[], None]) -> str:
    def enter_and_mount() -> None:
        try:
            _enter_namespace()
            mount()
        except PermissionError as error:
            if error.errno == errno.EPERM:
                raise Skip(MAY_NOT_MOUNT) from error
            raise

    return system(enter_and_mount)


def _mount_disk(scenario: Scenario, kind: bytes, options: bytes) -> str:
    def mount() -> None:
        _mount(b"none", os.fsencode(scenario.root), kind, MS_NOSUID | MS_NODEV, options)
        os.mkdir(scenario.cache_directory, 0o755)

    return _mounting(mount)


def disk(scenario: Scenario, size: bytes, inodes: bytes = b"0") -> str:
    return _mount_disk(scenario, b"tmpfs", b"mode=0755,size=%s,nr_inodes=%s" % (size, inodes))


def disk_without_attributes(scenario: Scenario) -> str:
    return _mount_disk(scenario, b"ramfs", b"mode=0755")


def read_only(scenario: Scenario, path: bytes) -> str:
    def mount() -> None:
        _mount(path, path, b"none", MS_BIND)
        _mount(b"none", path, b"none", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)

    return _mounting(mount)


def writable(scenario: Scenario, path: bytes) -> str:
    return system(lambda: _check(_libc.umount(path)))


def needs_user_attributes(scenario: Scenario) -> str:
    if not has_user_attributes(scenario.root):
        raise Skip(NO_USER_ATTRIBUTES)
    return "OK"


OPERATIONS = {
    "disk": ("t?t", disk),
    "disk_without_attributes": ("", disk_without_attributes),
    "read_only": ("p", read_only),
    "writable": ("p", writable),
    "needs_user_attributes": ("", needs_user_attributes),
}
