"""Tees and streams: the bytes of a source are delivered, and cached on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ._arguments import encoded, milliseconds, number
from ._file import ImageFile
from ._handle import Handle
from ._library import call, lib
from .errors import InvalidArgument
from .records import Role

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Tee(ImageFile):
    """A source that is read, and cached on the way. The image is published at the end of the source: read to the end, or
    expect the size.
    """

    def __init__(self, image_id: str, pointer: Any, kept: object) -> None:
        super().__init__(image_id, Handle(pointer, lib.image_cache_tee_close, "tee", kept=kept))

    def expect_size(self, size: int) -> None:
        """Sets the length that the source must have. Before the first read."""
        with self._use() as pointer:
            call(lib.image_cache_tee_expect_size, pointer, number(size, "the size"))

    def expect_digest(self, algorithm: str, hex: str) -> None:
        """Sets a digest that the bytes must have. Before the first read."""
        with self._use() as pointer:
            arguments = encoded(algorithm, "the algorithm"), encoded(hex, "the digest")
            call(lib.image_cache_tee_expect_digest, pointer, *arguments)

    def refuse_empty(self) -> None:
        """Refuses an empty image. Before the first read."""
        with self._use() as pointer:
            call(lib.image_cache_tee_refuse_empty, pointer)

    @property
    def is_caching(self) -> bool:
        """Whether the bytes are being cached, or were cached at the end."""
        with self._use() as pointer:
            return bool(lib.image_cache_tee_is_caching(pointer))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads the next bytes with one call of the source. At the end, 0, the image was published."""
        return self._read(lib.image_cache_tee_read, buffer)


class Stream(ImageFile):
    """A cached image, or one that all streams of it on this host fetch together. It is verified and published at the end:
    read to the end, or expect the size.
    """

    def __init__(self, image_id: str, pointer: Any, kept: object) -> None:
        super().__init__(image_id, Handle(pointer, lib.image_cache_stream_close, "stream", kept=kept))

    def expect_size(self, size: int) -> None:
        """Sets the length that the image must have. Before the first read."""
        with self._use() as pointer:
            call(lib.image_cache_stream_expect_size, pointer, number(size, "the size"))

    def expect_digest(self, algorithm: str, hex: str) -> None:
        """Sets a digest that the image must have. Before the first read."""
        with self._use() as pointer:
            arguments = encoded(algorithm, "the algorithm"), encoded(hex, "the digest")
            call(lib.image_cache_stream_expect_digest, pointer, *arguments)

    def set_timeout(self, seconds: Optional[float]) -> None:
        """Sets how long a read waits while no byte comes; then it raises TimedOut, and can be repeated. None: for ever."""
        if seconds == 0:
            raise InvalidArgument("a timeout of 0 s: it must be above 0, or None to wait for ever")
        with self._use() as pointer:
            call(
                lib.image_cache_stream_set_timeout,
                pointer,
                0 if seconds is None else milliseconds(seconds, "the timeout"),
            )

    def set_source_timeout(self, seconds: float) -> None:
        """Sets how long another participant's source may take for one call; 30 s by default."""
        with self._use() as pointer:
            call(lib.image_cache_stream_set_source_timeout, pointer, milliseconds(seconds, "the source timeout"))

    @property
    def role(self) -> Role:
        """Where the bytes that were read last came from."""
        with self._use() as pointer:
            return Role(lib.image_cache_stream_role(pointer))

    @property
    def available(self) -> int:
        """How many bytes of the image are in the cache."""
        with self._use() as pointer:
            available: int = lib.image_cache_stream_available(pointer)
        return available

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads the next bytes, and fetches them if nobody else does; 0 is the end.

        It may wait for another process. Python handles signals afterwards, or in the source.
        """
        return self._read(lib.image_cache_stream_read, buffer)

    def pread(self, size: int, offset: int, /) -> bytes:
        """Reads up to `size` bytes at an offset. The position does not change."""
        return self._pread(lib.image_cache_stream_read_at, size, offset)

    def preadinto(self, buffer: WriteableBuffer, offset: int, /) -> int:
        """Reads up to len(buffer) bytes at an offset. The position does not change."""
        return self._read(lib.image_cache_stream_read_at, buffer, number(offset, "offset"))
