"""The functions of the library that the tests call, with ctypes: the virtual environment needs no compiler for it."""

import ctypes
import traceback
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p

OK = 0
DRIVERS = {"sqlite": 0, "xattr": 1}


class Error(ctypes.Structure):
    _fields_ = [("status", c_int32), ("os_error", c_int32), ("message", c_char * 504)]


class Entry(ctypes.Structure):
    _fields_ = [
        ("image_id", c_char_p),
        ("size", c_uint64),
        ("hits", c_uint64),
        ("last_accessed", c_int64),
        ("last_modified", c_int64),
        ("digest", c_char_p),
        ("reason", c_char_p),
        ("process", c_uint64),
        ("since", c_int64),
        ("pinned_until", c_int64),
        ("allocated", c_uint64),
    ]


# Keep a reference to a callback as long as the library may call it, because ctypes keeps none.
Log = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
Source = ctypes.CFUNCTYPE(c_int64, c_void_p, POINTER(c_char), c_size_t)

# The parameters of each function before its `error`. Handles are c_void_p, because ctypes defaults to a 32-bit int.
CAN_FAIL = {
    "options_set_driver": [c_void_p, c_int32],
    "options_set_max_size": [c_void_p, c_uint64],
    "options_set_log": [c_void_p, Log, c_void_p],
    "open": [c_char_p, c_void_p, POINTER(c_void_p)],
    "is_cached": [c_void_p, c_char_p, POINTER(c_bool)],
    "get_cache_size": [c_void_p, POINTER(c_uint64)],
    "get_hit_count": [c_void_p, c_char_p, POINTER(c_uint64)],
    "list_cached": [c_void_p, POINTER(c_void_p)],
    "list_queued": [c_void_p, POINTER(c_void_p)],
    "list_incomplete": [c_void_p, POINTER(c_void_p)],
    "list_invalid": [c_void_p, POINTER(c_void_p)],
    "begin_write": [c_void_p, c_char_p, POINTER(c_void_p)],
    "write_chunk": [c_void_p, c_char_p, c_size_t],
    "commit": [c_void_p],
    "open_for_read": [c_void_p, c_char_p, POINTER(c_void_p)],
    "read": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
    "tee_open": [c_void_p, c_char_p, Source, c_void_p, POINTER(c_void_p)],
    "tee_read": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
    "queue_image": [c_void_p, c_char_p, POINTER(c_bool)],
    "delete_cached_image": [c_void_p, c_char_p],
    "prune_to": [c_void_p, c_uint64, POINTER(c_uint64), POINTER(c_uint64)],
    "clean": [c_void_p, c_int64, POINTER(c_uint64)],
    "verify": [c_void_p, c_char_p, c_void_p, c_size_t, c_void_p, c_size_t],
}
CANNOT_FAIL = {
    "status_name": (c_char_p, [c_int32]),
    "options_new": (c_void_p, []),
    "options_free": (None, [c_void_p]),
    "close": (None, [c_void_p]),
    "list_next": (c_bool, [c_void_p, POINTER(POINTER(Entry))]),
    "list_free": (None, [c_void_p]),
    "abort": (None, [c_void_p, c_char_p]),
    "reader_close": (None, [c_void_p]),
    "tee_close": (None, [c_void_p]),
}


class Failure(Exception):
    """A call failed: its status, its errno, and its message."""

    def __init__(self, name, error):
        super().__init__(f"{name}: {error.message.decode()}")
        self.status, self.os_error = error.status, error.os_error


class Library:
    """Each function without the prefix image_cache_. Functions that can fail raise Failure."""

    def __init__(self, path):
        library = ctypes.CDLL(path)
        for name, arguments in CAN_FAIL.items():
            function = getattr(library, "image_cache_" + name)
            function.restype, function.argtypes = c_int32, arguments + [POINTER(Error)]
            setattr(self, name, self.raising(function))
        for name, (result, arguments) in CANNOT_FAIL.items():
            function = getattr(library, "image_cache_" + name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def raising(self, function):
        def call(*arguments):
            error = Error()
            if function(*arguments, byref(error)) != OK:
                raise Failure(self.status_name(error.status).decode(), error)

        return call


def value(kind, function, *arguments):
    """Calls a function whose last parameter is an out parameter, and returns its value."""
    out = kind()
    function(*arguments, byref(out))
    return out.value


def source(read):
    """A callback for tee_open, from a function that is called with a size and returns at most so many bytes.

    ctypes returns 0, the end, from a function that raises. So this catches everything, and returns a failure. Keep a
    reference to the callback until the tee is closed.
    """

    @Source
    def callback(_, buffer, capacity):
        try:
            data = read(capacity)
            if len(data) > capacity:
                return -1
            ctypes.memmove(buffer, data, len(data))
            return len(data)
        except BaseException:
            traceback.print_exc()
            return -1

    return callback
