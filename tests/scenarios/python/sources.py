"""Scripted sources, and the tees, streams and prefetches over them."""

from __future__ import annotations

from typing import Any, Optional

import image_cache
import words
from read_write import text
from state import Open, Scenario
from words import BadLine, escape_text, fingerprint

LAST_STEPS = (b"fail", b"more", b"reenter")


class ScriptFails(Exception):
    """The script has a failure here."""


class Source:
    """The pieces that a source returns; of a fetch also the expectations on its writer."""

    def __init__(self, scenario: Scenario, steps: tuple[bytes, ...], is_fetch: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.expectations: list[tuple[str, str]] = []
        self.last: Optional[bytes] = None
        self.position = self.calls = self.bytes = 0
        self.file: Any = None  # the tee or stream
        for step in steps:
            if self.last is not None:
                raise BadLine("a step after the last one")
            if step in LAST_STEPS and not (is_fetch and step != b"fail"):
                self.last = step
            elif step.startswith(b"file:"):
                self._add_file(scenario, step[5:])
            elif words.is_data(step):
                self.pieces.append(words.data(step))
            elif is_fetch and b":" in step:
                what, _, value = step.partition(b":")
                if what == b"size":
                    words.number(value)
                self.expectations.append((text(what), text(value)))
            else:
                raise BadLine("no such step")

    def _add_file(self, scenario: Scenario, parameters: bytes) -> None:
        path, _, digits = parameters.rpartition(b":")
        size = words.number(digits)
        if size == 0:
            raise BadLine("pieces of 0 bytes")
        try:
            with open(scenario.inside(path), "rb") as file:
                while piece := file.read(size):
                    self.pieces.append(piece)
        except OSError as error:
            raise BadLine(str(error)) from error

    def read_at(self, offset: int, capacity: int) -> bytes:
        """Returns a piece that is larger than the buffer over several calls. No call returns bytes of two pieces."""
        self.calls += 1
        begin = 0
        for piece in self.pieces:
            if offset < begin + len(piece) or not piece and offset == begin:
                rest = piece[offset - begin : offset - begin + capacity]
                self.bytes += len(rest)
                return rest
            begin += len(piece)
        return self._last_step(capacity)

    def _last_step(self, capacity: int) -> bytes:
        if self.last == b"more":
            return bytes(capacity + 1)
        if self.last == b"reenter":
            try:
                self.file.read(capacity)
            except image_cache.InvalidArgument:
                raise ScriptFails from None
            return b""  # the read succeeded, which no scenario expects
        if self.last == b"fail":
            raise ScriptFails
        return b""

    def read(self, capacity: int) -> bytes:
        piece = self.read_at(self.position, capacity)
        self.position += len(piece)
        return piece

    def write_to(self, writer: image_cache.FetchWriter) -> None:
        for what, value in self.expectations:
            if what == "size":
                writer.expect_size(int(value))
            else:
                writer.expect_digest(what, value)
        for piece in self.pieces:
            writer.write(piece)
        if self.last is not None:
            raise ScriptFails


# ---- Tees and streams ----


def tee_open(scenario: Scenario, name: bytes, image_id: bytes, *steps: bytes) -> str:
    source = Source(scenario, steps)
    source.file = scenario.cache.tee(image_id, source)
    scenario.handles[name] = Open(source.file, source)
    return "OK"


def stream_open(scenario: Scenario, name: bytes, image_id: bytes, *steps: bytes) -> str:
    source = Source(scenario, steps)
    source.file = scenario.cache.stream(image_id, source.read_at)
    scenario.handles[name] = Open(source.file, source)
    return "OK"


def expect_size(scenario: Scenario, opened: Open, size: int) -> str:
    opened.file.expect_size(size)
    return "OK"


def expect_digest(scenario: Scenario, opened: Open, algorithm: bytes, digest: bytes) -> str:
    opened.file.expect_digest(text(algorithm), text(digest))
    return "OK"


def read_piece(opened: Open, size: int) -> bytes:
    buffer = bytearray(size)
    length = opened.file.readinto(buffer)
    return bytes(buffer[:length])


def read(scenario: Scenario, opened: Open, size: int) -> str:
    return f"OK {fingerprint(read_piece(opened, size))}"


def read_all(scenario: Scenario, opened: Open, size: int) -> str:
    """Reads to the end or a failure, and prints the bytes in either case."""
    pieces, status = [], "OK"
    try:
        while piece := read_piece(opened, size):
            pieces.append(piece)
    except image_cache.ImageCacheError as error:
        status = error.name
    return f"{status} {fingerprint(b''.join(pieces))}"


def stream_read_at(scenario: Scenario, opened: Open, offset: int, size: int) -> str:
    return f"OK {fingerprint(opened.file.pread(size, offset))}"


def is_caching(scenario: Scenario, opened: Open) -> str:
    return f"OK {str(opened.file.is_caching).lower()}"


def source_calls(scenario: Scenario, opened: Open) -> str:
    return f"OK {opened.source.calls}"


def source_bytes(scenario: Scenario, opened: Open) -> str:
    return f"OK {opened.source.bytes}"


def set_timeout(scenario: Scenario, opened: Open, milliseconds: int) -> str:
    opened.file.set_timeout(milliseconds / 1000 if milliseconds else None)
    return "OK"


def set_source_timeout(scenario: Scenario, opened: Open, milliseconds: int) -> str:
    opened.file.set_source_timeout(milliseconds / 1000)
    return "OK"


def role(scenario: Scenario, opened: Open) -> str:
    return f"OK {opened.file.role.name.lower()}"


def available(scenario: Scenario, opened: Open) -> str:
    return f"OK {opened.file.available}"


def close(scenario: Scenario, opened: Open) -> str:
    opened.file.close()
    scenario.handles = {name: handle for name, handle in scenario.handles.items() if handle is not opened}
    return "OK"


# ---- Prefetch ----


def fetch(scenario: Scenario, image_id: bytes, *steps: bytes) -> str:
    scenario.fetches[image_id] = Source(scenario, steps, is_fetch=True)
    return "OK"


def prefetch(scenario: Scenario) -> str:
    called = []

    def fetch_one(image_id: str, writer: image_cache.FetchWriter) -> None:
        called.append(escape_text(image_id))
        scenario.fetches[image_id.encode("utf-8", "surrogateescape")].write_to(writer)

    result = scenario.cache.prefetch(fetch_one)
    return f"OK {result.fetched} fetched {result.failed} failed called {' '.join(called) or 'none'}"


OPERATIONS = {
    "tee_open": ("@Et*", tee_open),
    "tee_expect_size": ("en", expect_size),
    "tee_expect_digest": ("ett", expect_digest),
    "tee_read": ("en", read),
    "tee_read_all": ("en", read_all),
    "tee_is_caching": ("e", is_caching),
    "tee_source_calls": ("e", source_calls),
    "tee_close": ("e", close),
    "stream_open": ("@Mt*", stream_open),
    "stream_expect_size": ("mn", expect_size),
    "stream_expect_digest": ("mtt", expect_digest),
    "stream_set_timeout": ("mn", set_timeout),
    "stream_set_source_timeout": ("mn", set_source_timeout),
    "stream_read": ("mn", read),
    "stream_read_all": ("mn", read_all),
    "stream_read_at": ("mnn", stream_read_at),
    "stream_role": ("m", role),
    "stream_available": ("m", available),
    "stream_source_calls": ("m", source_calls),
    "stream_source_bytes": ("m", source_bytes),
    "stream_close": ("m", close),
    "fetch": ("t*", fetch),
    "prefetch": ("@", prefetch),
}
