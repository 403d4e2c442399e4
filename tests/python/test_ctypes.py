#!/usr/bin/env python3
"""libimage_cache from plain Python, with ctypes and the prototypes below. It needs no package and no compiler.

    test_ctypes.py PATH/libimage_cache.so sqlite|xattr

A Python program may copy the declarations at the top. The library contains an SQLite of its own, and Python's sqlite3
module has another. Never open the cache's database with sqlite3 in a process that has the cache open: the first close of
the file drops the other's POSIX locks.
"""

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
import unittest
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t
from ctypes import c_uint32, c_uint64, c_void_p

OK, INVALID_ARGUMENT, INVALID_IMAGE_ID, NOT_FOUND, ALREADY_CACHED, BEING_CACHED, DIGEST_MISMATCH = range(0, -7, -1)
UNSUPPORTED, SOURCE = -11, -13
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
    ]


# Keep a reference to a callback as long as the library may call it, because ctypes keeps none.
Log = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
Source = ctypes.CFUNCTYPE(c_int64, c_void_p, POINTER(c_char), c_size_t)
Fetch = ctypes.CFUNCTYPE(c_int32, c_void_p, c_char_p, c_void_p)

# The parameters of each function before its `error`. Handles are c_void_p, because ctypes defaults to a 32-bit int.
CAN_FAIL = {
    "options_set_driver": [c_void_p, c_int32],
    "options_set_max_size": [c_void_p, c_uint64],
    "options_set_stall_time": [c_void_p, c_uint64],
    "options_set_database": [c_void_p, c_char_p],
    "options_set_durability": [c_void_p, c_int32],
    "options_set_change_driver": [c_void_p, c_bool],
    "options_set_streaming": [c_void_p, c_bool],
    "options_set_log": [c_void_p, Log, c_void_p],
    "open": [c_char_p, c_void_p, POINTER(c_void_p)],
    "is_cached": [c_void_p, c_char_p, POINTER(c_bool)],
    "is_being_cached": [c_void_p, c_char_p, POINTER(c_bool)],
    "is_queued": [c_void_p, c_char_p, POINTER(c_bool)],
    "is_cacheable": [c_void_p, c_char_p, POINTER(c_bool)],
    "get_cache_size": [c_void_p, POINTER(c_uint64)],
    "get_image_size": [c_void_p, c_char_p, POINTER(c_uint64)],
    "get_hit_count": [c_void_p, c_char_p, POINTER(c_uint64)],
    "list_cached": [c_void_p, POINTER(c_void_p)],
    "list_queued": [c_void_p, POINTER(c_void_p)],
    "begin_write": [c_void_p, c_char_p, POINTER(c_void_p)],
    "writer_expect_size": [c_void_p, c_uint64],
    "writer_expect_digest": [c_void_p, c_char_p, c_char_p],
    "write_chunk": [c_void_p, c_char_p, c_size_t],
    "commit": [c_void_p],
    "open_for_read": [c_void_p, c_char_p, POINTER(c_void_p)],
    "read": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
    "read_at": [c_void_p, c_uint64, c_void_p, c_size_t, POINTER(c_size_t)],
    "tee_open": [c_void_p, c_char_p, Source, c_void_p, POINTER(c_void_p)],
    "tee_expect_size": [c_void_p, c_uint64],
    "tee_refuse_empty": [c_void_p],
    "tee_expect_digest": [c_void_p, c_char_p, c_char_p],
    "tee_read": [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
    "queue_image": [c_void_p, c_char_p, POINTER(c_bool)],
    "delete_queued_image": [c_void_p, c_char_p],
    "delete_all_queued_images": [c_void_p, POINTER(c_uint64)],
    "prefetch": [c_void_p, Fetch, c_void_p, POINTER(c_uint64), POINTER(c_uint64)],
    "delete_cached_image": [c_void_p, c_char_p],
    "delete_all_cached_images": [c_void_p, POINTER(c_uint64)],
    "prune": [c_void_p, POINTER(c_uint64), POINTER(c_uint64)],
    "clean": [c_void_p, c_int64, POINTER(c_uint64)],
}
CANNOT_FAIL = {
    "version": (c_char_p, []),
    "version_number": (c_uint32, []),
    "status_name": (c_char_p, [c_int32]),
    "options_new": (c_void_p, []),
    "options_free": (None, [c_void_p]),
    "close": (None, [c_void_p]),
    "get_driver": (c_int32, [c_void_p]),
    "list_next": (c_bool, [c_void_p, POINTER(POINTER(Entry))]),
    "list_free": (None, [c_void_p]),
    "abort": (None, [c_void_p, c_char_p]),
    "reader_size": (c_uint64, [c_void_p]),
    "reader_fd": (c_int, [c_void_p]),
    "reader_close": (None, [c_void_p]),
    "tee_is_caching": (c_bool, [c_void_p]),
    "tee_close": (None, [c_void_p]),
}


class Failure(Exception):
    def __init__(self, error):
        super().__init__(f"{lib.status_name(error.status).decode()}: {error.message.decode()}")
        self.status = error.status


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

    @staticmethod
    def raising(function):
        def call(*arguments):
            error = Error()
            if function(*arguments, byref(error)) != OK:
                raise Failure(error)

        return call


def value(kind, function, *arguments):
    """Calls a function whose last parameter is an out parameter, and returns its value."""
    out = kind()
    function(*arguments, byref(out))
    return out.value


class CtypesTest(unittest.TestCase):
    def setUp(self):
        self.directory = os.fsencode(tempfile.mkdtemp(prefix="ctypes-", dir="."))
        self.addCleanup(shutil.rmtree, self.directory)
        try:
            self.cache = self.open_cache()
        except Failure as failure:
            if failure.status == UNSUPPORTED:
                self.skipTest(str(failure))
            raise
        self.addCleanup(lib.close, self.cache)

    def open_cache(self, max_size=10 << 30, log=None):
        options = lib.options_new()
        try:
            lib.options_set_driver(options, DRIVERS[driver])
            lib.options_set_max_size(options, max_size)
            if log is not None:
                lib.options_set_log(options, log, None)
            return value(c_void_p, lib.open, self.directory + b"/cache", options)
        finally:
            lib.options_free(options)

    def cache_image(self, image_id, *chunks):
        writer = value(c_void_p, lib.begin_write, self.cache, image_id)
        lib.writer_expect_digest(writer, b"sha256", hashlib.sha256(b"".join(chunks)).hexdigest().encode())
        for chunk in chunks:
            lib.write_chunk(writer, chunk, len(chunk))
        lib.commit(writer)

    def read_image(self, image_id, capacity=7):
        reader = value(c_void_p, lib.open_for_read, self.cache, image_id)
        buffer, data = ctypes.create_string_buffer(capacity), b""
        while length := value(c_size_t, lib.read, reader, buffer, capacity):
            data += buffer.raw[:length]
        self.assertEqual(lib.reader_size(reader), len(data))
        lib.reader_close(reader)
        return data

    def names(self, make_list):
        image_list, entry, names = value(c_void_p, make_list, self.cache), POINTER(Entry)(), []
        while lib.list_next(image_list, byref(entry)):
            names.append(entry.contents.image_id)
        lib.list_free(image_list)
        return names

    def assertFails(self, status, function, *arguments):
        with self.assertRaises(Failure) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.status, status, str(caught.exception))

    def test_an_image_is_cached_and_read_back(self):
        self.cache_image(b"one", b"first, ", b"", b"second\0binary")
        self.assertTrue(value(c_bool, lib.is_cached, self.cache, b"one"))
        self.assertEqual(self.read_image(b"one"), b"first, second\0binary")
        self.assertEqual(value(c_uint64, lib.get_hit_count, self.cache, b"one"), 1)
        self.assertEqual(lib.get_driver(self.cache), DRIVERS[driver])
        self.assertFails(ALREADY_CACHED, lib.begin_write, self.cache, b"one", byref(c_void_p()))
        self.assertFails(INVALID_IMAGE_ID, lib.begin_write, self.cache, b"../one", byref(c_void_p()))
        self.assertFails(NOT_FOUND, lib.open_for_read, self.cache, b"two", byref(c_void_p()))

    def test_images_are_listed_with_their_digests(self):
        self.cache_image(b"b", b"bytes")
        self.cache_image(b"a", b"more bytes")
        self.read_image(b"b")
        image_list, entry = value(c_void_p, lib.list_cached, self.cache), POINTER(Entry)()
        for image_id, data, hits in ((b"a", b"more bytes", 0), (b"b", b"bytes", 1)):
            self.assertTrue(lib.list_next(image_list, byref(entry)))
            image = entry.contents
            self.assertEqual((image.image_id, image.size, image.hits), (image_id, len(data), hits))
            self.assertEqual(image.digest, b"sha256:" + hashlib.sha256(data).hexdigest().encode())
            self.assertLess(abs(image.last_accessed - os.stat(self.directory).st_mtime_ns), 60 * 10**9)
        self.assertFalse(lib.list_next(image_list, byref(entry)))
        lib.list_free(image_list)

    def test_prune_keeps_the_images_accessed_last(self):
        for image_id in (b"1", b"2", b"3"):
            self.cache_image(image_id, b"x" * 1000)
        self.read_image(b"1")
        small = self.open_cache(max_size=2000)
        images, size = c_uint64(), c_uint64()
        lib.prune(small, byref(images), byref(size))
        lib.close(small)
        self.assertEqual((images.value, size.value), (1, 1000))
        self.assertEqual(self.names(lib.list_cached), [b"1", b"3"])
        self.assertEqual(value(c_uint64, lib.delete_all_cached_images, self.cache), 2)

    def test_clean_removes_failed_images(self):
        writer = value(c_void_p, lib.begin_write, self.cache, b"wrong")
        lib.writer_expect_digest(writer, b"md5", hashlib.md5(b"right").hexdigest().encode())
        lib.write_chunk(writer, b"wrong", 5)
        self.assertFails(DIGEST_MISMATCH, lib.commit, writer)
        lib.abort(value(c_void_p, lib.begin_write, self.cache, b"aborted"), b"tested")
        self.assertEqual(sorted(os.listdir(self.directory + b"/cache/invalid")), [b"aborted", b"wrong"])
        self.assertEqual(value(c_uint64, lib.clean, self.cache, -1), 2)
        self.assertEqual(os.listdir(self.directory + b"/cache/invalid"), [])

    def tee_to_the_end(self, image_id, source):
        tee = value(c_void_p, lib.tee_open, self.cache, image_id, source, None)
        buffer, data = ctypes.create_string_buffer(10), b""
        try:
            while length := value(c_size_t, lib.tee_read, tee, buffer, 10):
                data += buffer.raw[:length]
            return data
        finally:
            lib.tee_close(tee)

    def test_a_tee_caches_the_bytes_that_it_delivers(self):
        chunks = [b"uneven", b" ", b"pieces of ", b"one image"]

        @Source
        def source(_, buffer, capacity):
            chunk = chunks.pop(0) if chunks else b""
            self.assertLessEqual(len(chunk), capacity)
            ctypes.memmove(buffer, chunk, len(chunk))
            return len(chunk)

        @Source
        def broken(*_):
            return -1

        self.assertEqual(self.tee_to_the_end(b"teed", source), b"uneven pieces of one image")
        self.assertEqual(self.read_image(b"teed"), b"uneven pieces of one image")
        self.assertFails(SOURCE, self.tee_to_the_end, b"broken", broken)
        self.assertFalse(value(c_bool, lib.is_cached, self.cache, b"broken"))

    def test_prefetch_calls_back_for_each_queued_image(self):
        store = {b"second": b"2" * 100000, b"first": b"1"}

        @Fetch
        def fetch(_, image_id, writer):
            data = store.get(image_id)
            if data is None:
                return SOURCE
            lib.write_chunk(writer, data, len(data))
            return OK

        for image_id in (b"second", b"missing", b"first"):
            self.assertTrue(value(c_bool, lib.queue_image, self.cache, image_id))
        self.assertFalse(value(c_bool, lib.queue_image, self.cache, b"first"))
        self.assertEqual(self.names(lib.list_queued), [b"second", b"missing", b"first"])
        fetched, failed = c_uint64(), c_uint64()
        lib.prefetch(self.cache, fetch, None, byref(fetched), byref(failed))
        self.assertEqual((fetched.value, failed.value), (2, 1))
        self.assertEqual(self.names(lib.list_queued), [b"missing"])
        self.assertEqual(self.read_image(b"second", capacity=65536), b"2" * 100000)
        self.assertEqual(value(c_uint64, lib.delete_all_queued_images, self.cache), 1)

    def test_messages_are_logged_through_a_callback(self):
        messages = []
        log = Log(lambda _, level, message: messages.append((level, message)))
        cache = self.open_cache(log=log)
        writer = value(c_void_p, lib.begin_write, cache, b"being cached")
        self.assertFails(BEING_CACHED, lib.begin_write, cache, b"being cached", byref(c_void_p()))
        self.assertEqual(self.tee_to_the_end(b"being cached", Source(lambda *_: 0)), b"")
        lib.abort(writer, b"tested")
        lib.close(cache)
        self.assertTrue(all(1 <= level <= 4 and message for level, message in messages), messages)

    def test_every_function_refuses_null(self):
        for name, arguments in CAN_FAIL.items():
            callbacks, numbers = (Log, Source, Fetch), (c_int32, c_int64, c_uint64, c_size_t)
            nulls = [kind() if kind in callbacks else 0 if kind in numbers else None for kind in arguments]
            with self.subTest(function=name):
                self.assertFails(INVALID_ARGUMENT, getattr(lib, name), *nulls)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in DRIVERS:
        sys.exit(__doc__)
    lib, driver = Library(os.path.abspath(sys.argv[1])), sys.argv[2]
    print(f"libimage_cache {lib.version().decode()}, {driver} driver, Python {sys.version.split()[0]}")
    tests = unittest.main(argv=sys.argv[:1], exit=False).result
    if tests.skipped:
        print("SKIPPED:", tests.skipped[0][1])
    sys.exit(1 if not tests.wasSuccessful() else 77 if tests.skipped else 0)
