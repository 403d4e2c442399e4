#!/usr/bin/env python3
"""The binding examples/python/image_cache.py calls each function of the library.

    test_ctypes.py PATH/libimage_cache.so sqlite|xattr
"""

import contextlib
import ctypes
import hashlib
import io
import os
import shutil
import sys
import tempfile
import unittest
from ctypes import POINTER, byref, c_bool, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/python"))
from image_cache import ALREADY_CACHED, BEING_CACHED, CAN_FAIL, CANNOT_FAIL, DIGEST_MISMATCH, DRIVERS, INVALID_ARGUMENT
from image_cache import INVALID_IMAGE_ID, NOT_FOUND, SOURCE, UNSUPPORTED, Entry, Failure, Fetch, Library, Log, RangeSource
from image_cache import Source, fetch, range_source, source, value


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

        def read(capacity):
            self.assertEqual(capacity, 10)
            return chunks.pop(0) if chunks else b""

        def raise_error(_):
            raise OSError("the store is gone")

        self.assertEqual(self.tee_to_the_end(b"teed", source(read)), b"uneven pieces of one image")
        self.assertEqual(self.read_image(b"teed"), b"uneven pieces of one image")
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            self.assertFails(SOURCE, self.tee_to_the_end, b"broken", source(raise_error))
            self.assertFails(SOURCE, self.tee_to_the_end, b"broken", source(lambda size: b"x" * (size + 1)))
        self.assertIn("the store is gone", printed.getvalue())
        self.assertFalse(value(c_bool, lib.is_cached, self.cache, b"broken"))

    def test_two_streams_share_one_fetch(self):
        image, offsets = b"0123456789" * 3, []

        @range_source
        def from_store(offset, size):
            offsets.append(offset)
            return image[offset : offset + min(size, 10)]

        @range_source
        def raise_error(offset, size):
            raise OSError("the store is gone")

        streams = [value(c_void_p, lib.stream_open, self.cache, b"streamed", s, None) for s in (from_store, raise_error)]
        lib.stream_expect_size(streams[0], len(image))
        buffer, data = ctypes.create_string_buffer(10), [b"", b""]
        for _ in range(3):
            for i, stream in enumerate(streams):
                length = value(c_size_t, lib.stream_read, stream, buffer, 10)
                data[i] += buffer.raw[:length]
        for i, stream in enumerate(streams):
            self.assertEqual((value(c_size_t, lib.stream_read, stream, buffer, 10), data[i]), (0, image))
            self.assertEqual((lib.stream_available(stream), lib.stream_role(stream)), (len(image), 1 + i))
            lib.stream_close(stream)
        self.assertEqual(offsets, [0, 10, 20])
        self.assertTrue(value(c_bool, lib.wait_cached, self.cache, b"streamed", 0))
        broken = value(c_void_p, lib.stream_open, self.cache, b"broken", raise_error, None)
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            self.assertFails(SOURCE, lib.stream_read, broken, buffer, 10, byref(c_size_t()))
        self.assertIn("the store is gone", printed.getvalue())
        lib.stream_close(broken)

    def test_prefetch_calls_back_for_each_queued_image(self):
        store = {b"second": b"2" * 100000, b"first": b"1"}

        @fetch
        def from_store(image_id, writer):
            data = store[image_id]
            lib.write_chunk(writer, data, len(data))

        for image_id in (b"second", b"missing", b"first"):
            self.assertTrue(value(c_bool, lib.queue_image, self.cache, image_id))
        self.assertFalse(value(c_bool, lib.queue_image, self.cache, b"first"))
        self.assertEqual(self.names(lib.list_queued), [b"second", b"missing", b"first"])
        fetched, failed = c_uint64(), c_uint64()
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            lib.prefetch(self.cache, from_store, None, byref(fetched), byref(failed))
        self.assertIn("KeyError", printed.getvalue())
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

    def test_the_binding_has_every_function_of_the_header(self):
        contract = Path(__file__).resolve().parents[1] / "abi/functions.txt"
        functions = {line.split("(")[0] for line in contract.read_text().splitlines()}
        self.assertEqual({"image_cache_" + name for name in [*CAN_FAIL, *CANNOT_FAIL]}, functions)

    def test_every_function_refuses_null(self):
        for name, arguments in CAN_FAIL.items():
            callbacks, numbers = (Log, Source, RangeSource, Fetch), (c_int32, c_int64, c_uint64, c_size_t)
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
