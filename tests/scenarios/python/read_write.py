"""Operations on writers and readers, and shorthands that cache or read a whole image."""

from __future__ import annotations

import fcntl
import os
import tempfile
from typing import Callable

import image_cache
from image_cache import ImageCacheError, Reader, Writer
from line import status_of
from state import Scenario
from words import BadLine, fingerprint

# ---- Writers ----


def begin_write(scenario: Scenario, name: bytes, image_id: bytes) -> str:
    scenario.handles[name] = scenario.cache.begin_write(image_id)
    return "OK"


def writer_expect_size(scenario: Scenario, writer: Writer, size: int) -> str:
    writer.expect_size(size)
    return "OK"


def writer_expect_digest(scenario: Scenario, writer: Writer, algorithm: bytes, digest: bytes) -> str:
    writer.expect_digest(text(algorithm), text(digest))
    return "OK"


def text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")


def write_chunk(scenario: Scenario, writer: Writer, data: bytes) -> str:
    writer.write(data)
    return "OK"


def write_chunks(scenario: Scenario, writer: Writer, data: bytes, size: int) -> str:
    if size == 0:
        raise BadLine("pieces of 0 bytes")
    for begin in range(0, len(data), size):
        writer.write(memoryview(data)[begin : begin + size])
    return "OK"


def write_hole(scenario: Scenario, writer: Writer, length: int) -> str:
    writer.write_hole(length)
    return "OK"


def _forget(scenario: Scenario, handle: object) -> None:
    scenario.handles = {name: other for name, other in scenario.handles.items() if other is not handle}


def commit(scenario: Scenario, writer: Writer) -> str:
    _forget(scenario, writer)
    writer.commit()
    return "OK"


def abort(scenario: Scenario, writer: Writer, *reason: bytes) -> str:
    _forget(scenario, writer)
    writer.abort(text(reason[0]) if reason else None)
    return "OK"


def cache_image(scenario: Scenario, image_id: bytes, data: bytes) -> str:
    with scenario.cache.begin_write(image_id) as writer:
        writer.write(data)
    return "OK"


def import_image(scenario: Scenario, image_id: bytes, data: bytes) -> str:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        scenario.cache.import_(image_id, file)
    return "OK"


# ---- Readers ----


def open_for_read(scenario: Scenario, name: bytes, image_id: bytes) -> str:
    scenario.handles[name] = scenario.cache.open_for_read(image_id)
    return "OK"


def read_piece(file: image_cache.Reader, size: int) -> bytes:
    """One read with a buffer of that size."""
    buffer = bytearray(size)
    length = file.readinto(buffer)
    return bytes(buffer[:length])


def read_to_end(file: image_cache.Reader, size: int) -> bytes:
    pieces = []
    while piece := read_piece(file, size):
        pieces.append(piece)
    return b"".join(pieces)


def read(scenario: Scenario, reader: Reader, size: int) -> str:
    return f"OK {fingerprint(read_piece(reader, size))}"


def read_at(scenario: Scenario, reader: Reader, offset: int, size: int) -> str:
    return f"OK {fingerprint(reader.pread(size, offset))}"


def read_all(scenario: Scenario, reader: Reader, size: int) -> str:
    return f"OK {fingerprint(read_to_end(reader, size))}"


def reader_size(scenario: Scenario, reader: Reader) -> str:
    return f"OK {reader.size}"


def reader_path(scenario: Scenario, reader: Reader) -> str:
    if not os.path.isabs(reader.path):
        return "OK relative"
    try:
        is_same = os.path.samestat(os.fstat(reader.fileno()), os.stat(reader.path))
    except OSError:
        return "OK absent"
    return "OK its_file" if is_same else "OK another_file"


def reader_fd(scenario: Scenario, reader: Reader) -> str:
    mode = fcntl.fcntl(reader, fcntl.F_GETFL) & os.O_ACCMODE
    flags = fcntl.fcntl(reader, fcntl.F_GETFD)
    access = "read_only" if mode == os.O_RDONLY else "writable"
    return f"OK {access} {'close_on_exec' if flags & fcntl.FD_CLOEXEC else 'inherited'}"


def reader_close(scenario: Scenario, reader: Reader) -> str:
    _forget(scenario, reader)
    reader.close()
    return "OK"


def read_image(scenario: Scenario, image_id: bytes) -> str:
    with scenario.cache.open_for_read(image_id) as reader:
        return f"OK {fingerprint(read_to_end(reader, 65536))}"


def export(scenario: Scenario, image_id: bytes) -> str:
    with tempfile.TemporaryFile() as file:
        scenario.cache.export(image_id, file)
        return f"OK {fingerprint(file.read())}"


# ---- Every call that takes an image id ----


def every_call_with(scenario: Scenario, image_id: bytes) -> str:
    cache = scenario.cache
    with tempfile.TemporaryFile() as file:
        calls: dict[str, Callable[[], object]] = {
            "is_cached": lambda: cache.is_cached(image_id),
            "is_being_cached": lambda: cache.is_being_cached(image_id),
            "is_queued": lambda: cache.is_queued(image_id),
            "is_cacheable": lambda: cache.is_cacheable(image_id),
            "wait_cached": lambda: cache.wait_cached(image_id, 0),
            "get_image_size": lambda: cache.get_image_size(image_id),
            "get_hit_count": lambda: cache.get_hit_count(image_id),
            "queue_image": lambda: cache.queue_image(image_id),
            "delete_queued_image": lambda: cache.delete_queued_image(image_id),
            "delete_cached_image": lambda: cache.delete_cached_image(image_id),
            "delete_unused_image": lambda: cache.delete_unused_image(image_id),
            "pin": lambda: cache.pin(image_id, "holder"),
            "unpin": lambda: cache.unpin(image_id, "holder"),
            "open_for_read": lambda: cache.open_for_read(image_id).close(),
            "export": lambda: cache.export(image_id, file),
            "begin_write": lambda: cache.begin_write(image_id).abort("every call"),
            "tee_open": lambda: cache.tee(image_id, lambda size: b"").close(),
            "stream_open": lambda: cache.stream(image_id, lambda offset, size: b"").close(),
        }
        statuses = {name: _status(function) for name, function in calls.items()}
    if len(set(statuses.values())) == 1:
        return statuses["is_cached"]
    return " ".join(f"{name}:{status}" for name, status in statuses.items())


def _status(function: Callable[[], object]) -> str:
    try:
        function()
    except ImageCacheError as error:
        return status_of(error)
    return "OK"


OPERATIONS = {
    "begin_write": ("@Wt", begin_write),
    "writer_expect_size": ("wn", writer_expect_size),
    "writer_expect_digest": ("wtt", writer_expect_digest),
    "write_chunk": ("wd", write_chunk),
    "write_chunks": ("wdn", write_chunks),
    "commit": ("w", commit),
    "abort": ("w?t", abort),
    "cache_image": ("@td", cache_image),
    "open_for_read": ("@Rt", open_for_read),
    "read": ("rn", read),
    "read_at": ("rnn", read_at),
    "read_all": ("rn", read_all),
    "reader_size": ("r", reader_size),
    "reader_path": ("r", reader_path),
    "reader_fd": ("r", reader_fd),
    "reader_close": ("r", reader_close),
    "read_image": ("@t", read_image),
    "export": ("@t", export),
    "import": ("@td", import_image),
    "write_hole": ("wn", write_hole),
    "every_call_with": ("@t", every_call_with),
}
