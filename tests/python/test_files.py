"""Readers, tees and streams are files of Python's io module."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import warnings

import image_cache
import support
from support import CacheTest

DATA = bytes(range(256)) * 1000


class Files(CacheTest):
    def setUp(self) -> None:
        super().setUp()
        self.cache_image("1", DATA)
        self.reader = self.cache.open_for_read("1")
        self.addCleanup(self.reader.close)

    def test_a_reader_seeks_and_tells(self) -> None:
        reader = self.reader
        self.assertTrue(reader.readable() and reader.seekable() and not reader.writable())
        self.assertEqual((reader.read(3), reader.tell()), (DATA[:3], 3))
        self.assertEqual(
            (reader.seek(-2, os.SEEK_END), reader.read(10), reader.read(10)), (len(DATA) - 2, DATA[-2:], b"")
        )
        self.assertEqual((reader.seek(5), reader.seek(2, os.SEEK_CUR), reader.read(1)), (5, 7, DATA[7:8]))
        self.assertEqual((reader.seek(len(DATA) + 5), reader.read(1)), (len(DATA) + 5, b""))
        self.assert_fails(image_cache.InvalidArgument, reader.seek, -1)
        self.assert_fails(image_cache.InvalidArgument, reader.seek, 0, 7)
        self.assertEqual((reader.seek(0), reader.read()), (0, DATA))

    def test_reads_at_an_offset_leave_the_position(self) -> None:
        self.reader.seek(10)
        self.assertEqual(self.reader.pread(4, 100), DATA[100:104])
        buffer = bytearray(4)
        self.assertEqual((self.reader.preadinto(buffer, len(DATA) - 2), bytes(buffer[:2])), (2, DATA[-2:]))
        self.assertEqual((self.reader.pread(1, len(DATA)), self.reader.pread(0, 0)), (b"", b""))
        self.assertEqual((self.reader.tell(), self.reader.read(1)), (10, DATA[10:11]))
        self.assert_fails(image_cache.InvalidArgument, self.reader.pread, 1, -1)
        self.assert_fails(image_cache.InvalidArgument, self.reader.pread, -1, 1)

    def test_a_reader_fills_writable_memory_only(self) -> None:
        for buffer in (bytearray(8), memoryview(bytearray(8)), mmap.mmap(-1, 8)):
            self.reader.seek(1)
            self.assertEqual((self.reader.readinto(buffer), bytes(buffer)), (8, DATA[1:9]))
        self.assertEqual(self.reader.readinto(bytearray()), 0)
        with self.assertRaises((BufferError, TypeError)):
            self.reader.readinto(bytes(8))  # type: ignore[arg-type]

    def test_a_buffered_reader_reads_lines_and_peeks(self) -> None:
        buffered = io.BufferedReader(self.reader)
        self.assertEqual((buffered.readline(), buffered.peek(1)[:1]), (DATA[:11], DATA[11:12]))
        self.assertEqual((buffered.seek(256), buffered.read(2)), (256, DATA[:2]))
        buffered.close()
        self.assertTrue(self.reader.closed)

    def test_the_tools_for_files_take_a_reader(self) -> None:
        copy = io.BytesIO()
        shutil.copyfileobj(self.reader, copy)
        self.assertEqual(copy.getvalue(), DATA)
        self.assertEqual(os.pread(self.reader.fileno(), 4, 8), DATA[8:12])
        self.assertFalse(os.get_inheritable(self.reader.fileno()))
        self.assertTrue(os.path.samestat(os.stat(self.reader.path), os.fstat(self.reader.fileno())))
        self.assertEqual(self.reader.size, len(DATA))

    def test_an_iteration_returns_chunks_and_not_lines(self) -> None:
        self.assertEqual(list(self.reader), [DATA])
        with self.cache.tee("teed", io.BytesIO(DATA)) as tee:
            self.assertEqual(list(tee), [DATA])

    def test_a_tee_and_a_stream_do_not_seek(self) -> None:
        with self.cache.tee("t", io.BytesIO(b"")) as tee, self.cache.stream("s", lambda *_: b"") as stream:
            for file in (tee, stream):
                self.assertTrue(file.readable() and not file.seekable() and not file.writable())
                self.assertRaises(io.UnsupportedOperation, file.seek, 0)
                self.assertRaises(io.UnsupportedOperation, file.fileno)
            self.assertEqual((tee.readall(), stream.readall()), (b"", b""))

    def test_a_closed_file_refuses_everything(self) -> None:
        tee, stream = self.cache.tee("t", io.BytesIO()), self.cache.stream("s", lambda *_: b"")
        for file in (self.reader, tee, stream):
            file.close()
            file.close()
            self.assertTrue(file.closed)
            for use in (lambda: file.read(1), lambda: file.readinto(bytearray(1)), file.readable, lambda: list(file)):
                self.assertRaises(ValueError, use)
        self.assertRaises(ValueError, lambda: self.reader.size)
        self.assertRaises(ValueError, self.reader.fileno)
        self.assertRaises(ValueError, self.reader.tell)
        self.assertRaises(ValueError, lambda: stream.role)
        self.assertRaises(ValueError, lambda: tee.is_caching)

    def test_a_file_that_is_not_closed_warns(self) -> None:
        def forget(what: str) -> None:
            files = {
                "reader": lambda: self.cache.open_for_read("1"),
                "buffered": lambda: io.BufferedReader(self.cache.open_for_read("1")),
                "tee": lambda: self.cache.tee("t", io.BytesIO()),
                "stream": lambda: self.cache.stream("s", support.fail),
                "writer": lambda: self.cache.begin_write("w"),
                "cache": lambda: image_cache.Cache(self.path, driver=support.driver),
            }
            files[what]()

        for what in ("reader", "buffered", "tee", "stream", "writer", "cache"):
            with self.subTest(what), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                forget(what)
                self.assertEqual([warning.category for warning in caught], [ResourceWarning])
                self.assertIn("reader" if what == "buffered" else what, str(caught[0].message))
        # The forgotten writer was aborted, and blocks nobody.
        self.cache.begin_write("w").commit()
