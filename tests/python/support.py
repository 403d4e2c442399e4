"""What the tests of the package share: a cache in a directory of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from types import FrameType
from typing import Any, Callable, Iterator, NoReturn, Optional

import image_cache
from image_cache import Cache

driver = image_cache.Driver.SQLITE


def sha256(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest()}


class StoreIsGone(Exception):
    """What the sources of the tests raise."""


def fail(*_: object) -> NoReturn:
    raise StoreIsGone("the store is gone")


@contextlib.contextmanager
def at_entry(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` before the first line of each function of that name, as Python calls a signal handler."""

    def trace(frame: FrameType, event: str, argument: Any) -> Optional[Any]:
        if event == "call" and frame.f_code.co_name == name:
            action()
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class CacheTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="python-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "cache")
        try:
            self.cache = self.open_cache()
        except image_cache.Unsupported as error:
            self.skipTest(str(error))

    def open_cache(self, **options: Any) -> Cache:
        cache = Cache(self.path, **{"driver": driver, **options})
        self.addCleanup(cache.close)
        return cache

    def cache_image(self, image_id: str, data: bytes) -> None:
        with self.cache.begin_write(image_id, size=len(data), digests=sha256(data)) as writer:
            writer.write(data)

    def read_image(self, image_id: str) -> bytes:
        with self.cache.open_for_read(image_id) as reader:
            return reader.read()

    def ids(self) -> list[str]:
        return [image.image_id for image in self.cache.list_cached()]

    def assert_fails(self, kind: type[BaseException], function: Callable[..., Any], *arguments: Any) -> BaseException:
        """The function raises exactly that class."""
        with self.assertRaises(kind) as caught:
            function(*arguments)
        self.assertIs(type(caught.exception), kind)
        return caught.exception

    def run_program(self, program: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Runs a Python program with the cache's directory as its argument."""
        command = [sys.executable, "-B", *options, "-c", program, self.path, str(int(driver))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
