"""An exception in a callback fails the call, is the cause of what it raises, and never publishes a part of an image."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any, Callable

import image_cache
import support
from image_cache import SourceFailed
from support import CacheTest, StoreIsGone


class Interrupted(BaseException):
    """As KeyboardInterrupt: what a signal handler raises."""


def interrupted_at_entry(name: str) -> "contextlib.AbstractContextManager[None]":
    def interrupt() -> None:
        raise Interrupted

    return support.at_entry(name, interrupt)


class Callbacks(CacheTest):
    def assert_caused(self, kind: type[image_cache.ImageCacheError], function: Callable[[], Any]) -> None:
        error = self.assert_fails(kind, function)
        self.assertIsInstance(error.__cause__, StoreIsGone)

    def test_the_exception_of_a_source_is_the_cause(self) -> None:
        tee = self.cache.tee("1", support.fail)
        stream = self.cache.stream("2", support.fail)
        for file in (tee, stream):
            self.assert_caused(SourceFailed, lambda: file.read(10))
            # The failure is final, and has no new cause.
            self.assertIsNone(self.assert_fails(SourceFailed, lambda: file.read(10)).__cause__)
            file.close()
        self.assertEqual(self.ids(), [])

    def test_a_source_that_fails_after_a_part_publishes_nothing(self) -> None:
        def one_piece(size: int) -> bytes:
            if position.tell() > 0:
                support.fail()
            return position.read(5)

        position = io.BytesIO(b"0123456789")
        with self.cache.tee("1", one_piece) as tee:
            self.assertEqual(tee.read(10), b"01234")
            self.assert_caused(SourceFailed, lambda: tee.read(10))
        self.assertEqual(self.ids(), [])

    def test_a_source_that_returns_too_much_or_something_else_fails(self) -> None:
        for value, kind in ((b"x" * 11, ValueError), ("text", TypeError), (None, TypeError), (7, TypeError)):
            with self.subTest(value=value), self.cache.tee("1", lambda _: value) as tee:  # type: ignore[arg-type,return-value]
                error = self.assert_fails(SourceFailed, lambda: tee.read(10))
                self.assertIsInstance(error.__cause__, kind)
        self.assertRaises(AttributeError, self.cache.tee, "1", 7)
        self.assertRaises(TypeError, self.cache.stream, "1", io.BytesIO())
        self.assertEqual(self.ids(), [])

    def test_an_inspector_refuses_with_the_text_of_its_exception(self) -> None:
        seen = []

        def inspect(image_id: str, fd: int, length: int) -> None:
            seen.append((image_id, length))
            raise StoreIsGone("x" + "ä" * 1000)

        cache = self.open_cache(inspector=inspect)
        writer = cache.begin_write("1")
        writer.write(b"QED\0")
        self.assert_caused(image_cache.Refused, writer.commit)
        reason = cache.list_invalid()[0].reason or ""
        self.assertIn("refused: xä", reason)
        # It is cut off between two characters.
        self.assertGreater(reason.count("ä"), 50)
        self.assertEqual(reason.rstrip("ä")[-1], "x")
        self.assertEqual(seen, [("1", 4)])
        # A tee delivers all bytes, and is not published.
        with cache.tee("2", io.BytesIO(b"bytes")) as tee:
            self.assertEqual((tee.readall(), tee.is_caching), (b"bytes", False))
        with open(__file__, "rb") as file:
            self.assert_caused(image_cache.Refused, lambda: cache.import_("3", file))
        self.assertEqual(self.ids(), [])

    def test_an_inspector_that_returns_anything_refuses(self) -> None:
        cache = self.open_cache(inspector=lambda *_: False)
        writer = cache.begin_write("1")
        self.assertIsInstance(self.assert_fails(image_cache.Refused, writer.commit).__cause__, TypeError)
        with self.open_cache(inspector=lambda *_: None).begin_write("2"):
            pass
        self.assertEqual(self.ids(), ["2"])

    def test_a_progress_function_that_raises_stops_the_call(self) -> None:
        self.cache_image("1", b"x" * 1000)
        with open(self.directory + "/file", "w+b") as file:
            self.assert_caused(SourceFailed, lambda: self.cache.export("1", file, progress=support.fail))
            self.assert_caused(SourceFailed, lambda: self.cache.import_("2", file, progress=support.fail))
        self.assert_caused(SourceFailed, lambda: self.cache.verify(progress=support.fail))

    def test_a_log_function_that_raises_is_printed_and_fails_nothing(self) -> None:
        cache = self.open_cache(log=support.fail)
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            cache.begin_write("1").abort("tested")
        self.assertIn("the store is gone", printed.getvalue())
        self.assertIn("in the log function", printed.getvalue())
        self.assertIs(sys.exc_info()[0], None)

    def test_a_failure_in_a_call_within_a_callback_is_its_own(self) -> None:
        """The error of the inner call is handled there, and the outer call succeeds."""

        def read(size: int) -> bytes:
            self.assert_caused(SourceFailed, lambda: self.cache.tee("inner", support.fail).read(1))
            return data.read(size)

        data = io.BytesIO(b"0123456789")
        with self.assertWarns(ResourceWarning), self.cache.tee("outer", read) as tee:
            self.assertEqual(tee.readall(), b"0123456789")
        self.assertEqual(self.ids(), ["outer"])

        with self.cache.tee("inner", support.fail) as tee:

            def progress(*_: object) -> None:
                if not tee_failed:
                    self.assert_caused(SourceFailed, lambda: tee.read(1))
                    tee_failed.append(True)

            tee_failed: list[bool] = []
            self.assertEqual(self.cache.verify(progress=progress).verified, 1)

    def test_an_interrupt_at_the_entry_of_a_callback_publishes_nothing(self) -> None:
        """ctypes returns an arbitrary number then, such as 0: the end of the source, or success."""
        self.cache_image("cached", b"x")
        self.cache.queue_image("queued")
        self.cache.queue_image("queued too")
        inspecting = self.open_cache(inspector=lambda *_: None)
        target = open(self.directory + "/file", "w+b")
        self.addCleanup(target.close)
        writer = inspecting.begin_write("inspected")
        tee, stream = self.cache.tee("teed", io.BytesIO(b"x")), self.cache.stream("streamed", lambda *_: b"")
        self.addCleanup(tee.close)
        self.addCleanup(stream.close)
        for name, call in (
            ("read_next", lambda: tee.read(10)),
            ("read_at", lambda: stream.read(10)),
            ("inspect", writer.commit),
            ("fetch_one", lambda: self.cache.prefetch(lambda *_: None)),
            ("progress", lambda: self.cache.export("cached", target)),
            ("progress", lambda: self.cache.import_("imported", target)),
            ("progress", self.cache.verify),
        ):
            with self.subTest(name), self.assertRaises(Interrupted), interrupted_at_entry(name):
                call()
        self.assertEqual(self.ids(), ["cached"])
        self.assertEqual(len(self.cache.list_queued()), 2)

    def test_an_interrupt_in_a_log_function_is_raised_after_the_call(self) -> None:
        def log(level: int, message: str) -> None:
            raise Interrupted

        cache = self.open_cache(log=log)
        writer = cache.begin_write("1")
        self.assertRaises(Interrupted, writer.abort, "tested")
        self.assertTrue(writer.closed)
        cache.begin_write("1").commit()
        self.assertEqual(self.ids(), ["1"])

    def test_an_interrupt_in_a_close_is_raised_by_it(self) -> None:
        def inspect(*_: object) -> None:
            raise Interrupted

        cache = self.open_cache(inspector=inspect)
        tee = cache.tee("1", io.BytesIO(b"x"), size=1)
        self.assertEqual(tee.read(1), b"x")
        self.assertRaises(Interrupted, tee.close)  # it would have published the image
        self.assertEqual((tee.closed, self.ids()), (True, []))

    def test_an_interrupt_ends_a_prefetch(self) -> None:
        fetched: list[str] = []

        def fetch(image_id: str, writer: image_cache.FetchWriter) -> None:
            fetched.append(image_id)
            raise KeyboardInterrupt

        for image_id in "123":
            self.cache.queue_image(image_id)
        self.assertRaises(KeyboardInterrupt, self.cache.prefetch, fetch)
        self.assertEqual((fetched, len(self.cache.list_queued())), (["1"], 3))
