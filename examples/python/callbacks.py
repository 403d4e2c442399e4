"""callbacks.py LIBRARY CACHE_DIR: a tee, a prefetch and a log function, with ctypes alone."""

import ctypes, io, sys, traceback
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p

class Error(ctypes.Structure):
    _fields_ = [("status", c_int32), ("os_error", c_int32), ("message", c_char * 504)]
Source = CFUNCTYPE(c_int64, c_void_p, c_void_p, c_size_t)
Fetch = CFUNCTYPE(c_int32, c_void_p, c_char_p, c_void_p)
Log = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
library = ctypes.CDLL(sys.argv[1])  # after an installation: "libimage_cache.so.0"

def declare(name, result, *arguments):
    function = getattr(library, "image_cache_" + name)
    function.restype, function.argtypes = result, arguments
    return function
def declare_fallible(name, *arguments):  # for a function that returns a status: a failure raises
    function = declare(name, c_int32, *arguments, POINTER(Error))
    def call(*values):
        error = Error()
        if function(*values, byref(error)) != 0: raise OSError(error.os_error, error.message.decode())
    return call

options_new = declare("options_new", c_void_p)
options_free = declare("options_free", None, c_void_p)
cache_close = declare("close", None, c_void_p)
tee_close = declare("tee_close", None, c_void_p)
options_set_log = declare_fallible("options_set_log", c_void_p, Log, c_void_p)
cache_open = declare_fallible("open", c_char_p, c_void_p, POINTER(c_void_p))
tee_open = declare_fallible("tee_open", c_void_p, c_char_p, Source, c_void_p, POINTER(c_void_p))
tee_refuse_empty = declare_fallible("tee_refuse_empty", c_void_p)
tee_read = declare_fallible("tee_read", c_void_p, c_void_p, c_size_t, POINTER(c_size_t))
queue_image = declare_fallible("queue_image", c_void_p, c_char_p, POINTER(c_bool))
prefetch = declare_fallible("prefetch", c_void_p, Fetch, c_void_p, POINTER(c_uint64), POINTER(c_uint64))
write_chunk = declare_fallible("write_chunk", c_void_p, c_char_p, c_size_t)

def guarded(kind, failure):  # without it, a function that raises returns 0 to C: the end, or a commit
    def decorate(function):
        def call(*arguments):
            try:
                return function(*arguments)
            except BaseException:
                traceback.print_exc()
                return failure
        return kind(call)
    return decorate

@guarded(Log, None)
def log(_, level, message):
    print("log:", level, message.decode(), file=sys.stderr)
@guarded(Fetch, -13)  # IMAGE_CACHE_ERROR_SOURCE
def fetch(_, image_id, writer):
    data = {b"cirros": b"0123456789"}[image_id]  # the store
    write_chunk(writer, data, len(data))
    return 0  # commits the image

def read_through_tee(cache, image_id, stream):
    @guarded(Source, -1)
    def source(_, buffer, capacity):
        data = stream.read(capacity)
        if len(data) > capacity: return -1
        ctypes.memmove(buffer, data, len(data))
        return len(data)
    tee, buffer, length, data = c_void_p(), ctypes.create_string_buffer(65536), c_size_t(1), b""
    tee_open(cache, image_id, source, None, byref(tee))
    try:
        tee_refuse_empty(tee)
        while length.value > 0:
            tee_read(tee, buffer, len(buffer), byref(length))
            data += buffer.raw[: length.value]
        return data.decode()
    finally:
        tee_close(tee)  # until here, the variable `source` keeps the callback alive

options, cache, queued, fetched, failed = options_new(), c_void_p(), c_bool(), c_uint64(), c_uint64()
options_set_log(options, log, None)  # `log` and `fetch` are global: they outlive the cache
cache_open(sys.argv[2].encode(), options, byref(cache))
options_free(options)
print("tee:", read_through_tee(cache, b"fedora", io.BytesIO(b"teateatea")))
try:
    read_through_tee(cache, b"broken", None)  # `None.read` raises in the source
except OSError as error:
    print("tee:", error.strerror)
for name in (b"cirros", b"missing"): queue_image(cache, name, byref(queued))
prefetch(cache, fetch, None, byref(fetched), byref(failed))
print(f"prefetch: {fetched.value} fetched, {failed.value} failed")
cache_close(cache)
