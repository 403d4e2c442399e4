"""Caches an image: its only writer, over all threads and processes of the host."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional

from ._arguments import encoded, number, readable
from ._handle import Handle, abort, finalize
from ._library import call, ffi, lib, run

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class FetchWriter:
    """The writer that a fetch function gets, until it returns. The prefetch commits it, or aborts it if the function raises."""

    _handle: Optional[Handle] = None

    def __init__(self, image_id: str, handle: Handle) -> None:
        self._handle = handle
        #: The image that is cached.
        self.image_id = image_id

    def _use(self) -> Handle:
        assert self._handle is not None
        return self._handle

    def expect_size(self, size: int) -> None:
        """Sets the length that the image must have."""
        with self._use() as pointer:
            call(lib.image_cache_writer_expect_size, pointer, number(size, "the size"))

    def expect_digest(self, algorithm: str, hex: str) -> None:
        """Sets a digest that the image must have: of "md5", "sha256", "sha512" or "crc64nvme", in hexadecimal digits."""
        with self._use() as pointer:
            arguments = encoded(algorithm, "the algorithm"), encoded(hex, "the digest")
            call(lib.image_cache_writer_expect_digest, pointer, *arguments)

    def write(self, data: ReadableBuffer, /) -> int:
        """Appends bytes, and returns their number. The first failure is final: the commit raises it again."""
        with self._use() as pointer:
            memory = readable(data)
            call(lib.image_cache_write_chunk, pointer, memory, len(memory))
            return len(memory)

    def write_hole(self, length: int) -> None:
        """Appends bytes that are 0, and take up no room on the disk."""
        with self._use() as pointer:
            call(lib.image_cache_write_hole, pointer, number(length, "the length"))

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._use().is_closed

    def __repr__(self) -> str:
        return f"<image_cache.{type(self).__name__} of {self.image_id!r}>"


class Writer(FetchWriter):
    """The writer of an image. `with` commits at its end, and aborts if its body raises."""

    def __init__(self, image_id: str, pointer: Any, kept: object) -> None:
        super().__init__(image_id, Handle(pointer, abort, "writer", kept=kept))

    def commit(self) -> None:
        """Publishes the image, if it is as expected. Ends the writer, also if it raises."""
        handle = self._use()
        with handle:
            call(lib.image_cache_commit, handle.take())

    def abort(self, reason: Optional[str] = None) -> None:
        """Ends the writer without publishing the image. The reason is stored with the file."""
        handle = self._use()
        why = ffi.NULL if reason is None else encoded(reason.replace("\0", " "), "the reason")
        with handle:
            run(lib.image_cache_abort, handle.take(), why)

    def close(self) -> None:
        """Aborts, unless the writer has ended."""
        self._use().close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self.closed:
            return
        if error is None:
            self.commit()
        else:
            self.abort(f"{type(error).__name__}: {error}")

    def __del__(self) -> None:
        finalize(self._handle, self)
