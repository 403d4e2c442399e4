"""Prefetch: a function of the program fetches each queued image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional

from . import _callbacks
from ._handle import Handle
from ._library import call, ffi, lib
from .records import Prefetched
from .writer import FetchWriter

if TYPE_CHECKING:
    from types import TracebackType


def prefetch(cache: Any, fetch: Callable[[str, FetchWriter], None]) -> Prefetched:
    """Calls `fetch` for each queued image. After an interrupt in it, such as Ctrl-C, the other images stay queued."""
    ok: int = lib.IMAGE_CACHE_OK
    failed: int = lib.IMAGE_CACHE_ERROR_SOURCE
    counts, errors = ffi.new("uint64_t[2]"), {}
    interrupts: list[BaseException] = []

    def fetch_one(_: Any, c_id: Any, pointer: Any) -> int:
        if interrupts:
            return failed
        image_id = ffi.string(c_id).decode("utf-8", "surrogateescape")
        lent = Handle(pointer, lambda _: None, "writer of a fetch")
        try:
            fetch(image_id, FetchWriter(image_id, lent))
        except Exception as error:
            errors[image_id] = error
            return failed
        finally:
            lent.close()
        return ok

    def interrupted(kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
        interrupts.append(error)
        _callbacks.store_failure(kind, error, trace)

    function = ffi.callback("image_cache_fetch_fn", fetch_one, error=failed, onerror=interrupted)
    call(lib.image_cache_prefetch, cache, function, ffi.NULL, counts, counts + 1)
    return Prefetched(counts[0], counts[1], errors)
