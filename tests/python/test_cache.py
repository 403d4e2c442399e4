"""The verbs of a cache: write, read, list, tee, stream, prefetch, prune, pin, verify, copy."""

from __future__ import annotations

import hashlib
import io
import os
import warnings

import image_cache
from image_cache import Copy, LogLevel, Role
from support import CacheTest, sha256
import support


class Images(CacheTest):
    def test_an_image_is_cached_and_read_back(self) -> None:
        with self.cache.begin_write("one", digests=sha256(b"first, second\0binary")) as writer:
            self.assertEqual([writer.write(b"first, "), writer.write(b""), writer.write(b"second\0binary")], [7, 0, 13])
        self.assertTrue(self.cache.is_cached("one"))
        self.assertEqual(self.read_image("one"), b"first, second\0binary")
        self.assertEqual(self.cache.get_hit_count("one"), 1)
        self.assertEqual(self.cache.get_image_size("one"), 20)
        self.assertEqual(self.cache.get_driver(), support.driver)
        self.assert_fails(image_cache.AlreadyCached, self.cache.begin_write, "one")
        self.assert_fails(image_cache.InvalidImageId, self.cache.begin_write, "../one")
        self.assert_fails(image_cache.NotFound, self.cache.open_for_read, "two")

    def test_images_are_listed_with_their_digests(self) -> None:
        self.cache_image("b", b"bytes")
        self.cache_image("a", b"more bytes")
        self.read_image("b")
        first, second = self.cache.list_cached()
        self.assertEqual((first.image_id, first.size, first.hits), ("a", 10, 0))
        self.assertEqual((second.image_id, second.size, second.hits), ("b", 5, 1))
        self.assertEqual(second.digest, "sha256:" + hashlib.sha256(b"bytes").hexdigest())
        self.assertLess(abs(first.last_accessed_ns - os.stat(self.directory).st_mtime_ns), 60 * 10**9)
        self.assertEqual(self.cache.get_image("b"), second)
        self.assertEqual(self.cache.get_cache_size(), 15)

    def test_an_id_is_unicode(self) -> None:
        self.cache_image("Größe 图像", b"x")
        self.assertEqual(self.ids(), ["Größe 图像"])
        self.assertEqual(self.read_image("Größe 图像".encode()), b"x")  # type: ignore[arg-type]

    def test_a_writer_that_raises_aborts_with_the_exception_as_the_reason(self) -> None:
        with self.assertRaises(support.StoreIsGone):
            with self.cache.begin_write("broken") as writer:
                writer.write(b"half")
                support.fail()
        self.assertTrue(writer.closed)
        (invalid,) = self.cache.list_invalid()
        self.assertIn("StoreIsGone: the store is gone", invalid.reason or "")
        self.assertFalse(self.cache.is_cached("broken"))

    def test_a_wrong_digest_or_size_fails_the_commit(self) -> None:
        for expectations, kind in (
            ({"digests": sha256(b"right")}, image_cache.DigestMismatch),
            ({"size": 6}, image_cache.SizeMismatch),
        ):
            writer = self.cache.begin_write("wrong", **expectations)  # type: ignore[arg-type]
            writer.write(b"wrong")
            error = self.assert_fails(kind, writer.commit)
            self.assertIsInstance(error, image_cache.Mismatch)
            self.assert_fails(image_cache.InvalidArgument, writer.commit)
        self.assertEqual(self.cache.clean(), 1)

    def test_a_writer_takes_every_kind_of_buffer(self) -> None:
        data = bytearray(b"0123456789")
        with self.cache.begin_write("buffers") as writer:
            for part in (bytes(data), data, memoryview(data)[2:5], memoryview(bytes(data))[5:]):
                writer.write(part)
            writer.write_hole(3)
        self.assertEqual(self.cache.get_image("buffers").allocated % 512, 0)
        self.assertEqual(self.read_image("buffers"), b"01234567890123456789" + b"234" + b"56789" + bytes(3))

    def test_an_unsafe_image_is_refused(self) -> None:
        for formats in ("raw", ["raw", "qcow2"]):
            with self.open_cache(formats=formats).begin_write("qed") as writer:
                writer.write(b"QED\0")
                self.assert_fails(image_cache.Refused, writer.commit)
        self.assert_fails(image_cache.InvalidArgument, lambda: self.open_cache(formats="floppy"))

    def test_prune_keeps_the_images_accessed_last(self) -> None:
        for image_id in "123":
            self.cache_image(image_id, b"x" * 1000)
        self.read_image("1")
        self.assertEqual(self.open_cache(max_size=2000).prune(), (1, 1000))
        self.assertEqual(self.ids(), ["1", "3"])
        self.assertEqual(self.cache.make_room(1), (0, 0))
        self.cache.set_max_size(1000)
        self.assertEqual(self.cache.prune().images, 1)
        self.assertEqual(self.cache.prune_to(0), (1, 1000))
        self.assert_fails(image_cache.NoSpace, self.cache.make_room, 1001)

    def test_a_hard_limit_is_set_and_shown(self) -> None:
        cache = self.open_cache(max_size=1 << 20, limit_mode=image_cache.LimitMode.HARD, min_free=1, min_free_inodes=1)
        usage = cache.get_usage()
        self.assertEqual((usage.is_hard, usage.limit), (1, 1 << 20))
        self.assertGreaterEqual(usage.min_free, 1)
        self.assert_fails(image_cache.NoSpace, lambda: cache.begin_write("large", size=2 << 20))

    def test_clean_removes_failed_images(self) -> None:
        self.cache.begin_write("aborted").abort("tested")
        self.assertEqual(os.listdir(os.path.join(self.path, "invalid")), ["aborted"])
        self.assertEqual(self.cache.clean(), 1)
        self.assertEqual(self.cache.list_invalid(), [])

    def test_pins_and_statistics(self) -> None:
        self.cache_image("1", b"x" * 1000)
        self.cache.pin("1", b"\xff guest", 3600)
        self.assertIn("pinned", str(self.assert_fails(image_cache.Pinned, self.cache.delete_cached_image, "1")))
        self.assertTrue(self.cache.get_image("1").is_pinned)
        self.cache.pin("1", "for life")
        self.assertEqual(self.cache.get_image("1").pinned_until_ns, image_cache.FOREVER)
        self.cache.unpin("1", b"\xff guest")
        self.cache.unpin("1", "for life")
        self.cache.delete_cached_image("1")
        statistics = self.cache.get_statistics()
        self.assertEqual((statistics.commits, statistics.images, statistics.limit), (1, 0, 10 << 30))

    def test_verify_finds_damage_and_reports_progress(self) -> None:
        self.cache_image("good", b"x" * 1000)
        self.cache_image("bad", b"y" * 1000)
        with open(os.path.join(self.path, "bad"), "r+b") as file:
            file.write(b"z")
        calls: list[tuple[str, int, int]] = []
        result = self.cache.verify(progress=lambda *call: calls.append(call))
        self.assertEqual((result.verified, result.failed, result.stopped), (1, 1, 0))
        self.assertIn(("good", 1000, 1000), calls)
        self.assertEqual([image.image_id for image in self.cache.list_invalid()], ["bad"])
        self.assertEqual(self.cache.verify("good", progress=lambda *_: True).stopped, 1)
        self.assertEqual(self.cache.verify(skip_seconds=3600).skipped, 1)

    def test_an_image_goes_to_a_file_and_comes_from_one(self) -> None:
        self.cache_image("1", b"x" * 100_000)
        calls: list[tuple[int, int]] = []
        with open(os.path.join(self.directory, "file"), "w+b") as file:
            how = self.cache.export("1", file, sync=True, progress=lambda *call: calls.append(call))
            self.assertIn(how, (Copy.REFLINK, Copy.IN_KERNEL, Copy.BYTES))
            self.assertEqual((file.read(), calls[-1]), (b"x" * 100_000, (100_000, 100_000)))
            digests = sha256(b"x" * 100_000)
            self.assertIn(self.cache.import_("2", file, size=100_000, digests=digests), (Copy.REFLINK, Copy.BYTES))
            error = self.assert_fails(
                image_cache.DigestMismatch, lambda: self.cache.import_("3", file, digests=sha256(b""))
            )
            self.assertIn("sha256", str(error))
            self.assert_fails(image_cache.SourceFailed, lambda: self.cache.export("1", file, progress=lambda *_: True))
        self.assertEqual(self.read_image("2"), b"x" * 100_000)


class Sources(CacheTest):
    def test_a_tee_caches_the_bytes_that_it_delivers(self) -> None:
        chunks = [b"uneven", b" ", b"pieces of ", b"one image"]
        sizes: list[int] = []

        def read(size: int) -> bytes:
            sizes.append(size)
            return chunks.pop(0) if chunks else b""

        with self.cache.tee("teed", read, refuse_empty=True) as tee:
            pieces = []
            while piece := tee.read(10):
                pieces.append(piece)
            self.assertTrue(tee.is_caching)
        self.assertEqual(pieces, [b"uneven", b" ", b"pieces of ", b"one image"])
        self.assertEqual(set(sizes), {10})
        self.assertEqual(self.read_image("teed"), b"uneven pieces of one image")

    def test_a_tee_reads_a_file_and_is_published_at_its_expected_size(self) -> None:
        with self.cache.tee("file", io.BytesIO(b"tea" * 3), size=9, digests=sha256(b"tea" * 3)) as tee:
            self.assertEqual(tee.read(9), b"tea" * 3)
        self.assertTrue(self.cache.is_cached("file"))
        with self.cache.tee("empty", io.BytesIO(), refuse_empty=True) as tee:
            self.assert_fails(image_cache.SizeMismatch, tee.read, 1)
        self.assertFalse(self.cache.is_cached("empty"))

    def test_two_streams_share_one_fetch(self) -> None:
        image, offsets = b"0123456789" * 3, []

        def from_store(offset: int, size: int) -> bytes:
            offsets.append(offset)
            return image[offset : offset + min(size, 10)]

        with self.cache.stream("streamed", from_store, size=30) as one:
            with self.cache.stream("streamed", support.fail) as other:
                read = [(one.read(10), other.read(10)) for _ in range(3)]
                self.assertEqual([b"".join(pieces) for pieces in zip(*read)], [image, image])
                self.assertEqual((one.read(10), other.read(10)), (b"", b""))
                self.assertEqual((one.role, other.role), (Role.FETCHING, Role.FOLLOWING))
                self.assertEqual((one.available, other.pread(3, 9), offsets), (30, b"901", [0, 10, 20]))
        self.assertTrue(self.cache.wait_cached("streamed", 0))

    def test_a_stream_is_an_iterator_over_chunks(self) -> None:
        image = os.urandom(3 << 20)
        with self.cache.stream("chunks", lambda at, size: image[at : at + size], size=len(image)) as stream:
            chunks = list(stream)
        self.assertEqual(b"".join(chunks), image)
        self.assertGreater(len(chunks), 2)
        with self.cache.stream("chunks", support.fail) as stream:
            self.assertEqual(b"".join(stream), image)
            self.assertEqual(stream.role, Role.CACHED)

    def test_timeouts_are_seconds(self) -> None:
        with self.cache.begin_write("slow") as writer:
            self.assert_fails(image_cache.TimedOut, self.cache.wait_cached, "slow", 0.01)
            with self.cache.stream("slow", support.fail, timeout=0.001) as stream:
                self.assertIsInstance(self.assert_fails(image_cache.TimedOut, stream.read, 1), TimeoutError)
                self.assert_fails(image_cache.InvalidArgument, stream.set_timeout, 0)
                with warnings.catch_warnings(record=True) as caught:
                    self.assert_fails(
                        image_cache.InvalidArgument, lambda: self.cache.stream("slow", support.fail, timeout=0)
                    )
                self.assertEqual(caught, [])  # a stream that could not be set up is closed
                self.assert_fails(image_cache.InvalidArgument, stream.set_timeout, -1)
                self.assert_fails(image_cache.InvalidArgument, stream.set_source_timeout, 0)
            writer.write(b"x")
        self.assertTrue(self.cache.wait_cached("slow"))
        self.assertFalse(self.cache.wait_cached("absent", 60))

    def test_prefetch_fetches_each_queued_image(self) -> None:
        store = {"second": b"2" * 100_000, "first": b"1"}

        def fetch(image_id: str, writer: image_cache.FetchWriter) -> None:
            writer.expect_size(len(store[image_id]))
            writer.write(store[image_id])

        for image_id in ("second", "missing", "first"):
            self.assertTrue(self.cache.queue_image(image_id))
        self.assertFalse(self.cache.queue_image("first"))
        self.assertEqual([image.image_id for image in self.cache.list_queued()], ["second", "missing", "first"])
        result = self.cache.prefetch(fetch)
        self.assertEqual((result.fetched, result.failed, list(result.errors)), (2, 1, ["missing"]))
        self.assertIsInstance(result.errors["missing"], KeyError)
        self.assertTrue(self.cache.is_queued("missing"))
        self.assertEqual(self.read_image("second"), b"2" * 100_000)
        self.cache.delete_queued_image("missing")
        self.assertEqual(self.cache.delete_all_queued_images(), 0)

    def test_the_writer_of_a_fetch_ends_with_it(self) -> None:
        kept: list[image_cache.FetchWriter] = []
        self.cache.queue_image("1")
        self.cache.prefetch(lambda _, writer: kept.append(writer))
        self.assertTrue(kept[0].closed)
        self.assert_fails(image_cache.InvalidArgument, kept[0].write, b"x")

    def test_messages_are_logged_with_their_level(self) -> None:
        messages: list[tuple[LogLevel, str]] = []
        cache = self.open_cache(log=lambda *message: messages.append(message))
        cache.begin_write("aborted").abort("tested")
        self.assertIn((LogLevel.INFO, True), [(level, "tested" in message) for level, message in messages])
