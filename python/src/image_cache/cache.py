"""A cache of images in one directory. The method X calls the C function image_cache_X."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Callable, Mapping, Optional, TypeVar, Union

from . import _callbacks, _options
from ._arguments import File, ImageId, descriptor, encoded, encoded_id, milliseconds, number
from ._handle import Handle
from ._open_cache import OpenCache
from ._prefetch import prefetch
from ._library import call, ffi, lib, raise_interrupt
from .errors import InvalidArgument, SourceFailed, TimedOut
from .reader import Reader
from .records import Copy, Driver, Image, Prefetched, Pruned, Statistics, Usage, Verified
from .tee import Stream, Tee
from .writer import FetchWriter, Writer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Digests = Optional[Mapping[str, str]]
Opened = TypeVar("Opened", Writer, Tee, Stream)

#: Between two looks at an image that is waited for, Python handles signals.
_SLICE_SECONDS = 0.5


class Cache(OpenCache):
    """An open cache. Many threads may use it at once, and many processes may have the same directory open."""

    def __init__(self, directory: Union[str, bytes, os.PathLike[str]], **options: Unpack[_options.Options]) -> None:
        """Opens the cache in a directory, which is created if it is missing. help(image_cache.Options) has the options."""
        path = encoded(os.fsencode(directory), "the directory")
        out = ffi.new("image_cache_t **")
        built, callbacks = _options.build(options)
        try:
            call(lib.image_cache_open, path, built, out)
        finally:
            lib.image_cache_options_free(built)
        self._handle = Handle(out[0], lib.image_cache_close, "cache", is_exclusive=False, kept=callbacks)
        # Readers, writers, tees and streams have a reference to this object: they log and inspect after its close as well.
        self._callbacks = callbacks
        self.directory = directory
        raise_interrupt()

    # ---- Reading and writing ----

    def open_for_read(self, image_id: ImageId) -> Reader:
        """Opens a cached image, which counts as an access. Raises NotFound if it is not cached."""
        out = ffi.new("image_cache_reader_t **")
        with self._use() as cache:
            call(lib.image_cache_open_for_read, cache, encoded_id(image_id), out)
            return Reader(_shown(image_id), out[0], self)

    def begin_write(self, image_id: ImageId, *, size: Optional[int] = None, digests: Digests = None) -> Writer:
        """Begins to cache an image, and becomes its only writer. `digests`: {"sha256": hexadecimal digits}."""
        out = ffi.new("image_cache_writer_t **")
        with self._use() as cache:
            call(lib.image_cache_begin_write, cache, encoded_id(image_id), out)
            writer = Writer(_shown(image_id), out[0], self)
        return _expecting(writer, size, digests)

    def tee(
        self,
        image_id: ImageId,
        source: _callbacks.Source,
        *,
        size: Optional[int] = None,
        digests: Digests = None,
        refuse_empty: bool = False,
    ) -> Tee:
        """Opens a tee, which reads from a source, delivers the bytes, and caches them on the way.

        The source has a method read(size), or is such a function.
        """
        out, function = ffi.new("image_cache_tee_t **"), _callbacks.source(source)
        with self._use() as cache:
            call(lib.image_cache_tee_open, cache, encoded_id(image_id), function, ffi.NULL, out)
            tee = Tee(_shown(image_id), out[0], (self, function))
        _expecting(tee, size, digests)
        if refuse_empty:
            tee.refuse_empty()
        return tee

    def stream(
        self,
        image_id: ImageId,
        source: _callbacks.RangeSource,
        *,
        size: Optional[int] = None,
        digests: Digests = None,
        timeout: Optional[float] = None,
        source_timeout: Optional[float] = None,
    ) -> Stream:
        """Opens a stream: reads a cached image, or fetches it together with all other streams of it on this host.

        The source is a function of an offset and a size. Timeouts are seconds: see Stream.
        """
        out, function = ffi.new("image_cache_stream_t **"), _callbacks.range_source(source)
        with self._use() as cache:
            call(lib.image_cache_stream_open, cache, encoded_id(image_id), function, ffi.NULL, out)
            stream = Stream(_shown(image_id), out[0], (self, function))
        try:
            if timeout is not None:
                stream.set_timeout(timeout)
            if source_timeout is not None:
                stream.set_source_timeout(source_timeout)
        except BaseException:
            stream.close()
            raise
        return _expecting(stream, size, digests)

    # ---- Files ----

    def export(
        self,
        image_id: ImageId,
        file: File,
        how: int = Copy.ANY,
        *,
        sync: bool = False,
        progress: Optional[_callbacks.CopyProgress] = None,
    ) -> Copy:
        """Copies a cached image to a file that is open for writing, and returns how."""
        out, function = ffi.new("int32_t *"), _callbacks.copy_progress(progress)
        options = ffi.new("image_cache_export_options_t *", {"sync": int(sync), "progress": function})
        arguments = descriptor(file), number(how, "how", 32, signed=True), options, ffi.sizeof(options[0]), out
        with self._use() as cache:
            call(lib.image_cache_export, cache, encoded_id(image_id), *arguments)
        return Copy(out[0])

    def import_(
        self,
        image_id: ImageId,
        file: File,
        how: int = Copy.ANY,
        *,
        size: Optional[int] = None,
        digests: Digests = None,
        progress: Optional[_callbacks.CopyProgress] = None,
    ) -> Copy:
        """Caches a file, a block device or a pipe that is open for reading, and returns how it was copied.

        `digests` has "md5", "sha256" and "sha512" only.
        """
        out, function = ffi.new("int32_t *"), _callbacks.copy_progress(progress)
        options = ffi.new("image_cache_import_options_t *", {"progress": function})
        if size is not None:
            options.expects_size, options.size = 1, number(size, "the size")
        kept = []  # the texts, until the call returns
        for algorithm, hex in (digests or {}).items():
            if algorithm not in ("md5", "sha256", "sha512"):
                raise InvalidArgument(f"import_() takes md5, sha256 and sha512, not {algorithm!r}")
            kept.append(ffi.new("char[]", encoded(hex, "the digest")))
            setattr(options, algorithm, kept[-1])
        arguments = descriptor(file), number(how, "how", 32, signed=True), options, ffi.sizeof(options[0]), out
        with self._use() as cache:
            call(lib.image_cache_import, cache, encoded_id(image_id), *arguments)
        return Copy(out[0])

    # ---- Queries ----

    def get_driver(self) -> Driver:
        """The driver in use."""
        with self._use() as cache:
            return Driver(lib.image_cache_get_driver(cache))

    def is_cached(self, image_id: ImageId) -> bool:
        """Whether an image is cached."""
        return bool(self._query("bool *", lib.image_cache_is_cached, encoded_id(image_id)))

    def is_being_cached(self, image_id: ImageId) -> bool:
        """Whether incomplete/ has a file of an image, its writer alive or dead."""
        return bool(self._query("bool *", lib.image_cache_is_being_cached, encoded_id(image_id)))

    def is_queued(self, image_id: ImageId) -> bool:
        """Whether an image is in the queue."""
        return bool(self._query("bool *", lib.image_cache_is_queued, encoded_id(image_id)))

    def is_cacheable(self, image_id: ImageId) -> bool:
        """Whether an image is neither cached nor being cached, and its name is free."""
        return bool(self._query("bool *", lib.image_cache_is_cacheable, encoded_id(image_id)))

    def wait_cached(self, image_id: ImageId, timeout: Optional[float] = None) -> bool:
        """Waits until an image is cached: true. False: nobody caches it. Raises TimedOut after `timeout` seconds."""
        encoded_image = encoded_id(image_id)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE_SECONDS if end is None else min(_SLICE_SECONDS, end - time.monotonic())
            try:
                wait = milliseconds(max(0.0, left), "the timeout")
                return bool(self._query("bool *", lib.image_cache_wait_cached, encoded_image, wait))
            except TimedOut:
                if end is not None and time.monotonic() >= end:
                    raise

    def get_cache_size(self) -> int:
        """The size of all cached images in bytes."""
        return self._number(lib.image_cache_get_cache_size)

    def get_image_size(self, image_id: ImageId) -> int:
        """The length of a cached image in bytes."""
        return self._number(lib.image_cache_get_image_size, encoded_id(image_id))

    def get_hit_count(self, image_id: ImageId) -> int:
        """How often an image was read since it was cached; 0 if it is not cached."""
        return self._number(lib.image_cache_get_hit_count, encoded_id(image_id))

    def get_image(self, image_id: ImageId) -> Image:
        """A cached image, as list_cached() shows it. This is neither an access nor a hit."""
        return self._list(lib.image_cache_get_image, encoded_id(image_id))[0]

    def list_cached(self) -> list[Image]:
        """The cached images, ordered by id."""
        return self._list(lib.image_cache_list_cached)

    def list_queued(self) -> list[Image]:
        """The queued images, oldest first."""
        return self._list(lib.image_cache_list_queued)

    def list_incomplete(self) -> list[Image]:
        """The images that are being cached, ordered by id."""
        return self._list(lib.image_cache_list_incomplete)

    def list_invalid(self) -> list[Image]:
        """The images whose fetch has failed, ordered by id. clean() removes them."""
        return self._list(lib.image_cache_list_invalid)

    def get_usage(self) -> Usage:
        """What the cache takes up on the disk, and its bounds."""
        usage = ffi.new("image_cache_usage_t *")
        with self._use() as cache:
            call(lib.image_cache_get_usage, cache, usage, ffi.sizeof(usage[0]))
        return Usage(*(getattr(usage, field) for field in Usage._fields))

    def get_statistics(self) -> Statistics:
        """What the cache has now, and what all processes have counted, over restarts."""
        statistics = ffi.new("image_cache_statistics_t *")
        with self._use() as cache:
            call(lib.image_cache_get_statistics, cache, statistics, ffi.sizeof(statistics[0]))
        return Statistics(*(getattr(statistics, field) for field in Statistics._fields))

    # ---- The queue ----

    def queue_image(self, image_id: ImageId) -> bool:
        """Appends an image to the queue. False: it is queued, cached or being cached already."""
        return bool(self._query("bool *", lib.image_cache_queue_image, encoded_id(image_id)))

    def delete_queued_image(self, image_id: ImageId) -> None:
        """Removes an image from the queue. An image that is not queued is no error."""
        self._do(lib.image_cache_delete_queued_image, encoded_id(image_id))

    def delete_all_queued_images(self) -> int:
        """Empties the queue, and returns how many images it had."""
        return self._number(lib.image_cache_delete_all_queued_images)

    def prefetch(self, fetch: Callable[[str, FetchWriter], None]) -> Prefetched:
        """Fetches and caches each image that is queued now, oldest first.

        `fetch` is called with the image's id and its writer. If it raises, the image stays queued, and the others are fetched.
        """
        with self._use() as cache:
            return prefetch(cache, fetch)

    # ---- Deleting, pruning, cleaning, pins, verifying ----

    def delete_cached_image(self, image_id: ImageId) -> None:
        """Deletes a cached image, also one in use: its readers keep the bytes. An image that is not cached is no error."""
        self._do(lib.image_cache_delete_cached_image, encoded_id(image_id))

    def delete_unused_image(self, image_id: ImageId) -> bool:
        """Deletes a cached image, unless it is in use: then false."""
        return bool(self._query("bool *", lib.image_cache_delete_unused_image, encoded_id(image_id)))

    def delete_all_cached_images(self) -> int:
        """Deletes every image that is cached now, and returns how many."""
        return self._number(lib.image_cache_delete_all_cached_images)

    def set_max_size(self, size: int) -> None:
        """Sets the maximum size in bytes: of the directory if its limit is hard, else of this cache object."""
        self._do(lib.image_cache_set_max_size, number(size, "the size"))

    def prune(self) -> Pruned:
        """Evicts the least recently accessed images that are not in use, until the rest has at most the maximum size."""
        return self._prune(lib.image_cache_prune)

    def prune_to(self, size: int) -> Pruned:
        """Evicts until the rest has at most so many bytes."""
        return self._prune(lib.image_cache_prune_to, number(size, "the size"))

    def make_room(self, size: int) -> Pruned:
        """Evicts until an image of so many bytes fits. Raises NoSpace if that is impossible."""
        return self._prune(lib.image_cache_make_room, number(size, "the size"))

    def clean(self, stall_time: Optional[int] = None) -> int:
        """Removes invalid images, and incomplete files that are a dead writer's or have stalled. Returns how many.

        `stall_time` is in seconds; None: that of the options.
        """
        seconds = -1 if stall_time is None else number(stall_time, "the stall time", 64, signed=True)
        return self._number(lib.image_cache_clean, seconds)

    def pin(self, image_id: ImageId, holder: Union[str, bytes], seconds: Optional[int] = None) -> None:
        """Pins a cached image: it is neither evicted nor deleted. None: as long as this process lives."""
        time = number(seconds or 0, "seconds")
        self._do(lib.image_cache_pin, encoded_id(image_id), encoded(holder, "the holder"), time)

    def unpin(self, image_id: ImageId, holder: Union[str, bytes]) -> None:
        """Removes the pin of a holder."""
        self._do(lib.image_cache_unpin, encoded_id(image_id), encoded(holder, "the holder"))

    def verify(
        self,
        image_id: Optional[ImageId] = None,
        *,
        bytes_per_second: int = 0,
        skip_seconds: int = 0,
        progress: Optional[_callbacks.VerifyProgress] = None,
    ) -> Verified:
        """Compares the bytes of an image, or of all, with their digests. Damaged images move to invalid/.

        `bytes_per_second`: 0 is without a limit. Images that were verified within `skip_seconds` are skipped.
        """
        encoded_image = ffi.NULL if image_id is None else encoded_id(image_id)
        function, result = _callbacks.verify_progress(progress), ffi.new("image_cache_verify_result_t *")
        options = ffi.new("image_cache_verify_options_t *", {"progress": function})
        options.bytes_per_second = number(bytes_per_second, "bytes_per_second")
        options.skip_seconds = number(skip_seconds, "skip_seconds")
        sizes = ffi.sizeof(options[0]), ffi.sizeof(result[0])
        with self._use() as cache:
            failure = call(lib.image_cache_verify, cache, encoded_image, options, sizes[0], result, sizes[1])
        if failure is not None:
            raise SourceFailed("the verification was stopped: its progress function raised") from failure
        return Verified(*(getattr(result, field) for field in Verified._fields))


def _shown(image_id: ImageId) -> str:
    return image_id if isinstance(image_id, str) else image_id.decode("utf-8", "surrogateescape")


def _expecting(opened: Opened, size: Optional[int], digests: Digests) -> Opened:
    """Sets expectations. An object that cannot check them is closed."""
    try:
        if size is not None:
            opened.expect_size(size)
        for algorithm, hex in (digests or {}).items():
            opened.expect_digest(algorithm, hex)
    except BaseException:
        opened.close()
        raise
    return opened
