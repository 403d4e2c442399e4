"""The end of the interpreter, while other threads are in calls of the library.

Before version 3.14, Python ends a daemon thread where it waits for the interpreter's lock. In a callback, that is within
the library's own frames, and aborts the process. So the end of the program waits for these threads, and refuses them new calls.
"""

from __future__ import annotations

import os
import threading
import time

#: How long the end of the program waits for calls of daemon threads.
_PATIENCE_SECONDS = 2.0

#: The threads that are in a call.
busy: set[int] = set()
_is_ending = False
_a_call_has_ended = threading.Event()

os.register_at_fork(after_in_child=busy.clear)


def enter() -> None:
    """The present thread begins a call."""
    thread = threading.get_ident()
    busy.add(thread)
    if _is_ending and thread != threading.main_thread().ident:
        leave()
        raise SystemExit


def leave() -> None:
    busy.discard(threading.get_ident())
    if _is_ending:
        _a_call_has_ended.set()


def wait_for_calls() -> None:
    """Ends the calls of the other threads: their callbacks raise SystemExit, and fail."""
    global _is_ending
    _is_ending = True
    others = busy - {threading.get_ident()}
    for thread in others:
        _interrupt(thread)
    end = time.monotonic() + _PATIENCE_SECONDS
    while busy & others and time.monotonic() < end:
        _a_call_has_ended.wait(end - time.monotonic())
        _a_call_has_ended.clear()


def _interrupt(thread: int) -> None:
    import ctypes  # the only place that needs it

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
