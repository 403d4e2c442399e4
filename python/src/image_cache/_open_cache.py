"""The end of a cache object, and how its methods call the library."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Optional, TypeVar, Union

from ._handle import Handle, finalize
from ._library import call, ffi, lib
from .records import Image, Pruned, image_of

Self = TypeVar("Self", bound="OpenCache")


class OpenCache:
    """A cache handle of the library, which ends once."""

    _handle: Optional[Handle] = None
    directory: Union[str, bytes, os.PathLike[str]]

    def _use(self) -> Handle:
        assert self._handle is not None
        return self._handle

    def close(self) -> None:
        """Ends the cache, and writes the hits that it collected. Its readers, writers, tees and streams continue to work."""
        self._use().close()

    @property
    def closed(self) -> bool:
        return self._use().is_closed

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __del__(self) -> None:
        finalize(self._handle, self)

    def __repr__(self) -> str:
        return f"<image_cache.Cache in {os.fsdecode(self.directory)!r}>"

    # ---- How the methods call ----

    def _do(self, function: Any, *arguments: Any) -> None:
        with self._use() as cache:
            call(function, cache, *arguments)

    def _query(self, kind: str, function: Any, *arguments: Any) -> Any:
        out = ffi.new(kind)
        with self._use() as cache:
            call(function, cache, *arguments, out)
        return out[0]

    def _number(self, function: Any, *arguments: Any) -> int:
        return int(self._query("uint64_t *", function, *arguments))

    def _prune(self, function: Any, *arguments: Any) -> Pruned:
        counts = ffi.new("uint64_t[2]")
        self._do(function, *arguments, counts, counts + 1)
        return Pruned(*counts)

    def _list(self, function: Any, *arguments: Any) -> list[Image]:
        images, entry = (
            self._query("image_cache_list_t **", function, *arguments),
            ffi.new("image_cache_entry_t const **"),
        )
        try:
            listed = []
            while lib.image_cache_list_next(images, entry):
                listed.append(image_of(entry[0]))
            return listed
        finally:
            lib.image_cache_list_free(images)
