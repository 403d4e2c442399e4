"""What the library returns: images, counts, sizes. The constants that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Optional

from ._library import lib, optional_text, text

#: The value of Image.pinned_until_ns for a pin without an end: as long as a process lives.
FOREVER = 2**63 - 1


class Driver(IntEnum):
    """Where metadata is stored."""

    SQLITE = lib.IMAGE_CACHE_DRIVER_SQLITE
    XATTR = lib.IMAGE_CACHE_DRIVER_XATTR
    XATTR_OR_SQLITE = lib.IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE


class Durability(IntEnum):
    """What a commit waits for."""

    NONE = lib.IMAGE_CACHE_DURABILITY_NONE
    FULL = lib.IMAGE_CACHE_DURABILITY_FULL


class LimitMode(IntEnum):
    """Whether the maximum size is what prune prunes to, or is never exceeded."""

    SOFT = lib.IMAGE_CACHE_LIMIT_SOFT
    HARD = lib.IMAGE_CACHE_LIMIT_HARD


class Copy(IntEnum):
    """How an image is copied."""

    ANY = lib.IMAGE_CACHE_COPY_ANY
    REFLINK = lib.IMAGE_CACHE_COPY_REFLINK
    BYTES = lib.IMAGE_CACHE_COPY_BYTES
    IN_KERNEL = lib.IMAGE_CACHE_COPY_IN_KERNEL


class Role(IntEnum):
    """Where the bytes that a stream read last came from."""

    CACHED = lib.IMAGE_CACHE_STREAM_CACHED
    FETCHING = lib.IMAGE_CACHE_STREAM_FETCHING
    FOLLOWING = lib.IMAGE_CACHE_STREAM_FOLLOWING
    ALONE = lib.IMAGE_CACHE_STREAM_ALONE


class LogLevel(IntEnum):
    """How important a log message is."""

    ERROR = lib.IMAGE_CACHE_LOG_ERROR
    WARNING = lib.IMAGE_CACHE_LOG_WARNING
    INFO = lib.IMAGE_CACHE_LOG_INFO
    DEBUG = lib.IMAGE_CACHE_LOG_DEBUG


@dataclass(frozen=True)
class Image:
    """One image of a list. Times are nanoseconds since the Unix epoch."""

    image_id: str
    #: Its length in bytes; of an incomplete or invalid image, how many bytes are there.
    size: int
    #: How often it was read.
    hits: int
    #: When it was last opened, or committed if it never was.
    last_accessed_ns: int
    #: When it was committed.
    last_modified_ns: int
    #: "algorithm:hex", or None.
    digest: Optional[str]
    #: Why an image is invalid, or who has an incomplete one.
    reason: Optional[str]
    #: The process of an incomplete image's writer, or of the stream that fetched last; 0: none, or unknown.
    process: int
    #: When its writing or fetch began; 0: unknown.
    since_ns: int
    #: Until when it is pinned; 0: it is not; FOREVER: as long as a process lives.
    pinned_until_ns: int
    #: What it takes up on the disk in bytes: less than its size if it has holes.
    allocated: int

    @property
    def is_pinned(self) -> bool:
        return self.pinned_until_ns != 0


def image_of(entry: Any) -> Image:
    return Image(
        text(entry.image_id),
        entry.size,
        entry.hits,
        entry.last_accessed,
        entry.last_modified,
        optional_text(entry.digest),
        optional_text(entry.reason),
        entry.process,
        entry.since,
        entry.pinned_until,
        entry.allocated,
    )


class Pruned(NamedTuple):
    """What a prune evicted."""

    images: int
    bytes: int


@dataclass(frozen=True)
class Prefetched:
    """What a prefetch did."""

    fetched: int
    #: How many images were not cached, and stay queued.
    failed: int
    #: The exceptions of the fetch function. An image that failed at its commit has none: the log has the reason.
    errors: dict[str, Exception]


class Usage(NamedTuple):
    """What a cache takes up on the disk, and its bounds, in bytes on the disk."""

    #: By cached images.
    cached: int
    #: By images that are being cached, with what is reserved for them.
    incomplete: int
    #: The part of incomplete that has no bytes yet.
    reserved: int
    #: By images whose fetch failed, or that were found damaged.
    invalid: int
    #: By deleted images that are still open; 0 with a soft limit.
    deleted: int
    #: The limit: the directory's if it is hard, else that of the handle.
    limit: int
    #: 1 if the limit is hard, else 0.
    is_hard: int
    #: What the file system has free for this user.
    free: int
    #: What stays free at least.
    min_free: int
    #: How many inodes the file system has free; 0 where it has no fixed number of them.
    free_inodes: int
    #: By pinned images, which are a part of cached.
    pinned: int


class Statistics(NamedTuple):
    """What a cache has, and what all processes have counted since it was created."""

    images: int
    bytes: int
    allocated: int
    limit: int
    free: int
    #: How long ago the image that is evicted next was accessed, in seconds.
    next_victim_idle: int
    hits: int
    misses: int
    commits: int
    aborted_by_call: int
    closed_early: int
    wrong_digest: int
    wrong_size: int
    no_space: int
    lost: int
    source_failed: int
    other_failures: int
    evictions: int
    evicted_bytes: int
    streams_followed: int
    bytes_not_fetched: int
    bytes_served: int
    verified: int
    found_damaged: int


class Verified(NamedTuple):
    """The result of a verification."""

    #: Images that have their digests.
    verified: int
    #: Images that are damaged, and were moved to invalid/.
    failed: int
    #: Images that could not be read. They stay.
    unreadable: int
    #: Images for which no digest was stored. The present one was stored.
    without_digest: int
    #: Images that were verified lately, that another call verifies, or that vanished meanwhile.
    skipped: int
    bytes_read: int
    #: 1 if the progress function stopped it, else 0.
    stopped: int
