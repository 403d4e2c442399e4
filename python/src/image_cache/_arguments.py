"""Converts arguments. What C would cut off or wrap is refused: a NUL within a text, a number that does not fit."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, Union

from ._library import ffi
from .errors import InvalidArgument, InvalidImageId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class HasFileno(Protocol):
    """A file object of the operating system."""

    def fileno(self) -> int: ...


#: A file object or a descriptor.
File = Union[int, HasFileno]

#: An image's id. A str is encoded as UTF-8; bytes are passed unchanged.
ImageId = Union[str, bytes]

_MAX_MILLISECONDS = 2**64 - 1


def encoded(value: Union[str, bytes], what: str) -> bytes:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif not isinstance(value, bytes):
        raise TypeError(f"{what} must be str or bytes, not {type(value).__name__}")
    if b"\0" in value:
        raise InvalidArgument(f"{what} has a NUL byte")
    return value


def encoded_id(image_id: ImageId) -> bytes:
    try:
        return encoded(image_id, "the image id")
    except InvalidArgument as error:
        raise InvalidImageId(error.message) from None


def number(value: SupportsIndex, what: str, bits: int = 64, signed: bool = False) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}") from None
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= integer <= high:
        raise InvalidArgument(f"{what} must be from {low} to {high}, not {integer}")
    return integer


def milliseconds(seconds: float, what: str) -> int:
    """Rounds to whole milliseconds; a time above 0 does not become 0."""
    if isinstance(seconds, float) and math.isnan(seconds) or seconds < 0:
        raise InvalidArgument(f"{what} must not be negative, and is {seconds}")
    if seconds == 0:
        return 0
    if isinstance(seconds, float) and math.isinf(seconds):
        return _MAX_MILLISECONDS
    return min(max(1, round(seconds * 1000)), _MAX_MILLISECONDS)


def descriptor(file: File) -> int:
    return file if isinstance(file, int) else file.fileno()


def readable(data: ReadableBuffer) -> Any:
    """A pointer to bytes. They are not copied, and stay where they are as long as the pointer lives."""
    return ffi.from_buffer(data)


def writable(buffer: WriteableBuffer) -> Any:
    return ffi.from_buffer(buffer, require_writable=True)
