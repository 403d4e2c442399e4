"""Operations on files and directories that bypass the library."""

from __future__ import annotations

import errno
import os
import stat
import time

from line import system
from state import Scenario
from words import escape, fingerprint


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def make_file(scenario: Scenario, path: bytes, data: bytes) -> str:
    return system(lambda: _write(path, data))


def make_dead(scenario: Scenario, path: bytes, data: bytes) -> str:
    def make() -> None:
        _write(path, data)
        os.chmod(path, 0o1644)

    return system(make)


def make_directory(scenario: Scenario, path: bytes) -> str:
    return system(lambda: os.mkdir(path, 0o755))


def make_fifo(scenario: Scenario, path: bytes) -> str:
    return system(lambda: os.mkfifo(path, 0o644))


def make_symlink(scenario: Scenario, path: bytes, target: bytes) -> str:
    return system(lambda: os.symlink(target, path))


def remove(scenario: Scenario, path: bytes) -> str:
    is_directory = os.path.isdir(path) and not os.path.islink(path)
    return system(lambda: os.rmdir(path) if is_directory else os.remove(path))


def move(scenario: Scenario, path: bytes, target: bytes) -> str:
    return system(lambda: os.rename(path, target))


def use_up_inodes(scenario: Scenario, path: bytes) -> str:
    """Creates empty files 0, 1, 2, ... until the disk has no free inode."""
    for i in range(100_000):
        try:
            os.close(os.open(path + b"/%d" % i, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except OSError as error:
            return "OK" if error.errno == errno.ENOSPC else "FAILED"
    return "FAILED"


def age(scenario: Scenario, path: bytes, seconds: int) -> str:
    then = time.time_ns() - seconds * 10**9
    return system(lambda: os.utime(path, ns=(then, then), follow_symlinks=False))


def look(scenario: Scenario, path: bytes) -> str:
    try:
        status = os.lstat(path)
    except OSError as error:
        return _absent(error)
    if stat.S_ISREG(status.st_mode):
        return f"file {status.st_size} bytes"
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
    return kinds.get(stat.S_IFMT(status.st_mode), "other")


def _absent(error: OSError, number: int = errno.ENOENT) -> str:
    return "absent" if error.errno == number else "FAILED"


def contents(scenario: Scenario, path: bytes) -> str:
    try:
        with open(path, "rb") as file:
            return f"OK {fingerprint(file.read())}"
    except OSError as error:
        return _absent(error)


def list_directory(scenario: Scenario, path: bytes) -> str:
    try:
        return " ".join(escape(name) for name in sorted(os.listdir(path))) or "none"
    except OSError as error:
        return _absent(error)


def attribute(scenario: Scenario, path: bytes, name: bytes, *part: bytes) -> str:
    try:
        value = os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        return _absent(error, errno.ENODATA)
    if not part:
        return "present"
    return "contains" if part[0] in value else "lacks"


OPERATIONS = {
    "make_file": ("pd", make_file),
    "make_dead": ("pd", make_dead),
    "make_directory": ("p", make_directory),
    "make_fifo": ("p", make_fifo),
    "make_symlink": ("pt", make_symlink),
    "remove": ("p", remove),
    "move": ("pp", move),
    "use_up_inodes": ("p", use_up_inodes),
    "age": ("pn", age),
    "look": ("p", look),
    "contents": ("p", contents),
    "list_directory": ("p", list_directory),
    "attribute": ("pt?t", attribute),
}
