"""Loads the library, and calls its functions: a status that is not OK is raised."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import Any, Optional

from . import _declarations, _exit
from .errors import BY_STATUS, ImageCacheError

ffi: Any = _declarations.ffi

#: The soname. Its number changes with each incompatible version.
SONAME = "libimage_cache.so.0"


def _load() -> Any:
    path = os.environ.get("IMAGE_CACHE_LIBRARY") or SONAME
    try:
        library = ffi.dlopen(path)
    except OSError as error:
        why = str(error).partition("': ")[2] or error  # without cffi's own words
        raise ImportError(
            f"cannot load libimage_cache: {why}. Install it where the loader searches (make install, then ldconfig), "
            f"or set IMAGE_CACHE_LIBRARY to the path of {SONAME}."
        ) from error
    missing = [name for name in dir(library) if not _has(library, name)]
    if missing:
        raise ImportError(
            f"{path} has no {missing[0]}: it is an older version of libimage_cache than this package needs"
        )
    _check_version(library, path)
    return library


def _check_version(library: Any, path: str) -> None:
    """An older library lacks fields that were appended to structs which it allocates."""
    parts = [getattr(library, f"IMAGE_CACHE_VERSION_{part}") for part in ("MAJOR", "MINOR", "PATCH")]
    if library.image_cache_version_number() < parts[0] << 16 | parts[1] << 8 | parts[2]:
        found = ffi.string(library.image_cache_version()).decode()
        needed = ".".join(map(str, parts))
        raise ImportError(f"{path} has version {found}, and this package needs {needed} or a later one")


def _has(library: Any, name: str) -> bool:
    try:
        getattr(library, name)
    except (AttributeError, ffi.error):
        return False
    return True


lib: Any = _load()
OK: int = lib.IMAGE_CACHE_OK


class _ThreadState(threading.local):
    """What the callbacks of the present call have left. A call within a callback has a state of its own."""

    def __init__(self) -> None:
        self.error: Any = ffi.new("image_cache_error_t *")
        #: The exception of the callback that failed last.
        self.failure: Optional[BaseException] = None
        #: A KeyboardInterrupt or SystemExit in a callback, although the call itself did not fail.
        self.interrupt: Optional[BaseException] = None
        #: Within the log function, the library refuses every call.
        self.is_logging = False
        #: How many calls this thread is in, one in a callback of the other.
        self.depth = 0


state = _ThreadState()


def call(function: Any, *arguments: Any) -> Optional[BaseException]:
    """Calls a function that returns a status. Raises a failure, with the exception of its callback as the cause.

    Returns the exception of a callback that did not make the call fail.
    """
    outer = _begin()
    try:
        error = state.error
        status: int = function(*arguments, error)
        failure = state.failure
    finally:
        _end(outer)
    if failure is not None and not isinstance(failure, Exception):
        if status != OK:
            raise failure
        state.interrupt = failure
    if status != OK:
        raise error_of(status, error.os_error, text(error.message)) from failure
    return failure


def run(function: Any, *arguments: Any) -> None:
    """Calls a function without a status. The exception of an inspector is logged by the library, as a refusal."""
    outer = _begin()
    try:
        function(*arguments)
        if state.failure is not None and not isinstance(state.failure, Exception):
            state.interrupt = state.failure
    finally:
        _end(outer)


def _begin() -> Optional[BaseException]:
    if state.depth == 0:
        _exit.enter()
    state.depth += 1
    outer, state.failure = state.failure, None
    return outer


def _end(outer: Optional[BaseException]) -> None:
    state.failure = outer
    state.depth -= 1
    if state.depth == 0:
        _exit.leave()


def raise_interrupt() -> None:
    """Raises the KeyboardInterrupt or SystemExit of a callback, after the results of the call were stored."""
    if state.interrupt is not None:
        interrupt, state.interrupt = state.interrupt, None
        raise interrupt


def error_of(status: int, os_error: int, message: str) -> ImageCacheError:
    kind = BY_STATUS.get(status)
    return kind(message, os_error) if kind is not None else ImageCacheError(message, os_error, status)


def text(characters: Any) -> str:
    string: bytes = ffi.string(characters)
    return string.decode(errors="replace")


def optional_text(characters: Any) -> Optional[str]:
    return None if characters == ffi.NULL else text(characters)


def print_ignored(where: str, error: BaseException) -> None:
    """Reports an exception that no call can raise."""
    traceback.print_exception(type(error), error, error.__traceback__)
    print(f"image_cache: the exception above was raised in {where}, and is ignored", file=sys.stderr)


def version() -> str:
    """The version of the loaded library, for example "0.2.0"."""
    return text(lib.image_cache_version())


def version_number() -> int:
    """The version of the loaded library as a number: major << 16 | minor << 8 | patch."""
    number: int = lib.image_cache_version_number()
    return number


def status_name(status: int) -> str:
    """The C name of a status, for example "IMAGE_CACHE_ERROR_NOT_FOUND"."""
    return text(lib.image_cache_status_name(status))
