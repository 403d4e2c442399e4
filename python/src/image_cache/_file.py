"""What readers, tees and streams have in common: they are binary files for reading."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Iterator, Optional

from ._arguments import number, writable
from ._handle import Handle, finalize
from ._library import call, ffi

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: How many bytes an iteration returns at once, at most.
CHUNK = 1 << 20


class ImageFile(io.RawIOBase):
    """A raw binary file, for io.BufferedReader, shutil.copyfileobj and the like.

    An iteration returns chunks of up to 1 MiB, and not lines. Threads that read one file at the same time wait for each
    other.
    """

    _handle: Optional[Handle] = None

    def __init__(self, image_id: str, handle: Handle) -> None:
        super().__init__()
        self._handle = handle
        self._length = ffi.new("size_t *")
        #: The image that is read.
        self.image_id = image_id

    def _use(self) -> Handle:
        assert self._handle is not None
        return self._handle

    def _read(self, function: Any, buffer: WriteableBuffer, *position: int) -> int:
        with self._use() as pointer:
            memory = writable(buffer)
            call(function, pointer, *position, memory, len(memory), self._length)
            length: int = self._length[0]
        return length

    def _pread(self, function: Any, size: int, offset: int) -> bytes:
        buffer = bytearray(number(size, "size", 63))
        length = self._read(function, buffer, number(offset, "offset"))
        return bytes(memoryview(buffer)[:length])

    def readable(self) -> bool:
        self._check_open()
        return True

    def readall(self) -> bytes:
        """The bytes up to the end."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self.read(CHUNK)
        if not chunk:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Ends it. A second close does nothing."""
        super().close()
        if self._handle is not None:
            self._handle.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"this {self._use().name} is closed")

    def _dealloc_warn(self, source: object) -> None:
        """An io.BufferedReader that is collected calls it before it closes this file."""
        if self._handle is not None:
            self._handle.warn_unclosed(source)

    def __del__(self) -> None:
        finalize(self._handle, self)

    def __repr__(self) -> str:
        return f"<{type(self).__module__.split('.')[0]}.{type(self).__name__} of {self.image_id!r}>"
