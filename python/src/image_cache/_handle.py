"""The pointer behind each object: who may use it, and when it ends.

C forbids what Python does all the time: two threads in one reader, a close during a call, a finalizer at any moment. This
file keeps such uses apart.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from types import TracebackType
from typing import Any, Callable, Optional

from ._exit import wait_for_calls
from ._library import lib, raise_interrupt, run, state
from .errors import Forked, InvalidArgument

#: Increased in each forked child: a handle of another generation is another process's.
_generation = 0

#: The handles that are open, which the end of the interpreter closes.
_open: "weakref.WeakSet[Handle]" = weakref.WeakSet()

#: Handles that a finalizer ended within a log function, where the library refuses every call.
_postponed: "deque[tuple[Callable[[Any], None], Any, object]]" = deque()


def _forked() -> None:
    global _generation
    _generation += 1
    _postponed.clear()


os.register_at_fork(after_in_child=_forked)


class Handle:
    """`with handle as pointer:` is one call. The pointer stays valid until its end.

    An exclusive handle is used by one thread at a time: the others wait. `kept` has the callbacks, which live as long as
    the library may call them.
    """

    def __init__(
        self, pointer: Any, end: Callable[[Any], None], name: str, *, is_exclusive: bool = True, kept: object = None
    ) -> None:
        self.name = name
        self._pointer = pointer
        self._end = end
        self._kept = kept
        self._generation = _generation
        self._turn = threading.RLock() if is_exclusive else None
        # It can be taken twice: a signal handler may use the same object at any line.
        self._lock = threading.RLock()
        self._users = 0
        self._is_ending = False
        _open.add(self)

    @property
    def is_closed(self) -> bool:
        return self._pointer is None or self._is_ending

    @property
    def is_inherited(self) -> bool:
        """Whether this is a forked child, and the handle the parent's."""
        return self._generation != _generation

    def __enter__(self) -> Any:
        if self._generation != _generation:
            raise Forked(f"this {self.name} is the parent's: a forked child opens its own")
        if self._turn is not None:
            self._turn.acquire()
        try:
            with self._lock:
                if self._pointer is None or self._is_ending:
                    raise InvalidArgument(f"this {self.name} is closed")
                self._users += 1
                return self._pointer
        except BaseException:
            if self._turn is not None:
                self._turn.release()
            raise

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        with self._lock:
            self._users -= 1
            pointer = self._taken() if self._is_ending else None
        try:
            if pointer is not None:
                self._finish(pointer)
        finally:
            if self._turn is not None:
                self._turn.release()
        if _postponed and not state.is_logging:
            _end_postponed()
        if kind is None and state.interrupt is not None:
            raise_interrupt()

    def _taken(self) -> Any:
        """The pointer, if nobody uses it. The caller has the lock, and ends it."""
        if self._users > 0:
            return None
        pointer, self._pointer = self._pointer, None
        return pointer

    def _finish(self, pointer: Any) -> None:
        kept, self._kept = self._kept, None
        if state.is_logging:
            _postponed.append((self._end, pointer, kept))
        else:
            run(self._end, pointer)

    def take(self) -> Any:
        """Ends the handle for all further calls, and returns the pointer, for a function that frees it itself.

        Call it within `with`, by the only user.
        """
        with self._lock:
            if self._users > 1:
                raise InvalidArgument(f"this {self.name} is in use by another call")
            pointer, self._pointer = self._pointer, None
        return pointer

    def close(self, *, may_wait: bool = True) -> None:
        """Ends it. A call that is under way, in a callback of which this runs, or in another thread, ends it afterwards."""
        if self._generation != _generation:
            return
        if self._turn is not None and not self._turn.acquire(blocking=may_wait):
            return
        try:
            with self._lock:
                self._is_ending = self._pointer is not None
                pointer = self._taken() if self._is_ending else None
            if pointer is not None:
                self._finish(pointer)
        finally:
            if self._turn is not None:
                self._turn.release()
        if may_wait:  # not in a finalizer
            raise_interrupt()

    def warn_unclosed(self, source: object) -> None:
        """For the finalizer of the object that has this handle."""
        if not self.is_closed and not self.is_inherited:
            warnings.warn(f"unclosed {self.name}: {source!r}", ResourceWarning, stacklevel=3, source=source)


def finalize(handle: Optional[Handle], source: object) -> None:
    """The finalizer of an object. After the interpreter's end, the process's end closes everything."""
    if handle is None or handle.is_closed or sys.is_finalizing():
        return
    handle.warn_unclosed(source)
    handle.close(may_wait=False)


def _end_postponed() -> None:
    while True:
        try:
            end, pointer, _kept = _postponed.popleft()
        except IndexError:
            return
        run(end, pointer)


def _close_all() -> None:
    """Closes what is still open: hits are written, writers are aborted. Caches come last."""
    wait_for_calls()
    for handle in sorted(_open, key=lambda handle: handle.name == "cache"):
        if not handle.is_closed and not handle.is_inherited:
            warnings.warn(f"unclosed {handle.name} at the end of the program", ResourceWarning, stacklevel=2)
            handle.close(may_wait=False)


atexit.register(_close_all)


def abort(pointer: Any) -> None:
    """Ends a writer that nobody committed."""
    lib.image_cache_abort(pointer, b"the writer was closed without a commit")
