"""The functions that the library calls.

Each has an error value, which cffi returns to the library when the function raises: the call fails, and the exception is the
cause of what it raises. cffi does so as well when a signal handler raises before the function's first line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, Union

from ._library import ffi, lib, print_ignored, state, text
from .records import LogLevel

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer


class HasRead(Protocol):
    """An object with a read(size) method, such as a binary file or a response of urllib."""

    def read(self, size: int, /) -> "ReadableBuffer": ...


#: What a tee reads: an object with read(size), or such a function. b"" is the end.
Source = Union[HasRead, Callable[[int], "ReadableBuffer"]]
#: What a stream reads: a function of an offset and a size. b"" is the end.
RangeSource = Callable[[int, int], "ReadableBuffer"]
#: Receives a level and a message. It must not call the library.
Log = Callable[[LogLevel, str], None]
#: Receives an image's id, a descriptor that is open for reading, and the length. It raises to refuse the image.
Inspector = Callable[[str, int, int], None]
#: Receives the numbers of bytes that are done and of all. A true result stops the call.
CopyProgress = Callable[[int, int], Optional[bool]]
#: Receives the image's id, the numbers of bytes that are done and of all. A true result stops the verification.
VerifyProgress = Callable[[str, int, int], Optional[bool]]


def store_failure(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """cffi calls it with the exception of a callback."""
    state.failure = error


def callback(signature: str, function: Callable[..., Any], error: int) -> Any:
    return ffi.callback(signature, function, error=error, onerror=store_failure)


def _deliver(data: ReadableBuffer, buffer: Any, capacity: int) -> int:
    pieces = ffi.from_buffer(data)
    if len(pieces) > capacity:
        raise ValueError(f"the source returned {len(pieces)} bytes, and {capacity} were requested")
    ffi.memmove(buffer, pieces, len(pieces))
    return len(pieces)


def source(source: Source) -> Any:
    read: Callable[[int], ReadableBuffer] = source if callable(source) else source.read

    def read_next(_: Any, buffer: Any, capacity: int) -> int:
        return _deliver(read(capacity), buffer, capacity)

    return callback("image_cache_source_fn", read_next, -1)


def range_source(read: RangeSource) -> Any:
    if not callable(read):
        raise TypeError("the source of a stream is a function of an offset and a size")

    def read_at(_: Any, offset: int, buffer: Any, capacity: int) -> int:
        return _deliver(read(offset, capacity), buffer, capacity)

    return callback("image_cache_range_source_fn", read_at, -1)


def log(function: Log) -> Any:
    def receive(_: Any, number: int, message: Any) -> None:
        state.is_logging = True
        try:
            level = LogLevel(number) if number in LogLevel.__members__.values() else number
            function(level, text(message))  # type: ignore[arg-type]
        finally:
            state.is_logging = False

    def failed(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
        """A log message has no status that could fail, so an exception is printed. An interrupt ends the call's caller."""
        if isinstance(error, Exception):
            print_ignored("the log function", error)
        else:
            state.failure = error

    return ffi.callback("image_cache_log_fn", receive, onerror=failed)


def inspector(function: Inspector) -> Any:
    refused: int = lib.IMAGE_CACHE_ERROR_REFUSED

    def inspect(_: Any, image_id: Any, fd: int, length: int, reason: Any, capacity: int) -> int:
        try:
            result: object = function(text(image_id), fd, length)  # type: ignore[func-returns-value]
            if result is not None:
                raise TypeError(f"an inspector returns None, or raises to refuse; it returned {result!r}")
        except Exception as error:
            state.failure = error
            why = (str(error) or type(error).__name__).encode(errors="replace").replace(b"\0", b" ")
            # Cut at the beginning of a character.
            why = why[: capacity - 1].decode(errors="ignore").encode()
            ffi.memmove(reason, why, len(why))
            return refused
        return 0

    return callback("image_cache_inspect_fn", inspect, refused)


def copy_progress(function: Optional[CopyProgress]) -> Any:
    """Without a function, it lets Python handle signals during a long copy."""

    def progress(_: Any, done: int, total: int) -> int:
        return 1 if function is not None and function(done, total) else 0

    return callback("image_cache_copy_progress_fn", progress, 1)


def verify_progress(function: Optional[VerifyProgress]) -> Any:
    def progress(_: Any, image_id: Any, done: int, total: int) -> int:
        return 1 if function is not None and function(text(image_id), done, total) else 0

    return callback("image_cache_verify_progress_fn", progress, 1)
