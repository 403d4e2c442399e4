"""Reads a cached image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._arguments import number
from ._file import ImageFile
from ._handle import Handle
from ._library import ffi, lib
from .errors import InvalidArgument

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Reader(ImageFile):
    """An open cached image: a raw binary file that can seek. It reads the same bytes even if the image is deleted.

    While it is open, the image is not evicted.
    """

    def __init__(self, image_id: str, pointer: Any, kept: object) -> None:
        super().__init__(image_id, Handle(pointer, lib.image_cache_reader_close, "reader", kept=kept))
        self._position = 0
        #: Where the library's own position is.
        self._sequential = 0

    @property
    def size(self) -> int:
        """The image's length in bytes."""
        with self._use() as pointer:
            size: int = lib.image_cache_reader_size(pointer)
        return size

    @property
    def path(self) -> str:
        """The path of the image's file, for a program that opens it by name. Keep the reader until it has."""
        with self._use() as pointer:
            return os.fsdecode(ffi.string(lib.image_cache_reader_path(pointer)))

    def fileno(self) -> int:
        """The descriptor, which is open for reading only, and stays the reader's. Its offset is not this file's position."""
        with self._use() as pointer:
            descriptor: int = lib.image_cache_reader_fd(pointer)
        return descriptor

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads up to len(buffer) bytes; 0 is the end."""
        handle = self._use()
        with handle:
            if self._position == self._sequential:
                length = self._read(lib.image_cache_read, buffer)
                self._sequential += length
            else:
                length = self._read(lib.image_cache_read_at, buffer, self._position)
            self._position += length
        return length

    def pread(self, size: int, offset: int, /) -> bytes:
        """Reads up to `size` bytes at an offset. The position does not change."""
        return self._pread(lib.image_cache_read_at, size, offset)

    def preadinto(self, buffer: WriteableBuffer, offset: int, /) -> int:
        """Reads up to len(buffer) bytes at an offset. The position does not change."""
        return self._read(lib.image_cache_read_at, buffer, number(offset, "offset"))

    def seekable(self) -> bool:
        self._check_open()
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves the position, also beyond the end."""
        self._check_open()
        if whence == os.SEEK_SET:
            base = 0
        elif whence == os.SEEK_CUR:
            base = self._position
        elif whence == os.SEEK_END:
            base = self.size
        else:
            raise InvalidArgument(f"whence must be 0, 1 or 2, not {whence}")
        self._position = number(base + offset, "the position", 63)
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position
