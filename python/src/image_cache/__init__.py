"""A local cache of virtual-machine images: the Python binding of libimage_cache.

    import image_cache

    with image_cache.Cache("/var/cache/agent", max_size=50 << 30) as cache:
        with cache.begin_write("cirros", digests={"sha256": hex}) as writer:
            for chunk in store:
                writer.write(chunk)
        with cache.open_for_read("cirros") as reader:
            shutil.copyfileobj(reader, guest)

The library is libimage_cache.so.0 of the loader, or the file that the environment variable IMAGE_CACHE_LIBRARY names.
The manual of each function is that of C: `man 3 image_cache_prune`.

Never open the cache's database with Python's sqlite3 in a process that has the cache open. The library contains an SQLite of
its own, and the first close of the file drops the other's POSIX locks.
"""

from ._callbacks import CopyProgress, Inspector, Log, RangeSource, Source, VerifyProgress
from ._library import status_name, version, version_number
from ._options import Options
from .cache import Cache
from .errors import (
    AlreadyCached,
    BeingCached,
    DigestMismatch,
    Forked,
    ImageCacheError,
    IndexFailed,
    InternalFailure,
    InvalidArgument,
    InvalidImageId,
    IoFailed,
    Lost,
    Mismatch,
    NoMemory,
    NoSpace,
    NotFound,
    Pinned,
    Refused,
    SizeMismatch,
    SourceFailed,
    TimedOut,
    Unsupported,
)
from .reader import Reader
from .records import (
    FOREVER,
    Copy,
    Driver,
    Durability,
    Image,
    LimitMode,
    LogLevel,
    Prefetched,
    Pruned,
    Role,
    Statistics,
    Usage,
    Verified,
)
from .tee import Stream, Tee
from .writer import FetchWriter, Writer

#: The version of this package. It has that of the library which it declares.
__version__ = "0.2.0"

__all__ = [
    "FOREVER",
    "AlreadyCached",
    "BeingCached",
    "Cache",
    "Copy",
    "CopyProgress",
    "DigestMismatch",
    "Driver",
    "Durability",
    "FetchWriter",
    "Forked",
    "Image",
    "ImageCacheError",
    "IndexFailed",
    "Inspector",
    "InternalFailure",
    "InvalidArgument",
    "InvalidImageId",
    "IoFailed",
    "LimitMode",
    "Log",
    "LogLevel",
    "Lost",
    "Mismatch",
    "NoMemory",
    "NoSpace",
    "NotFound",
    "Options",
    "Pinned",
    "Prefetched",
    "Pruned",
    "RangeSource",
    "Reader",
    "Refused",
    "Role",
    "SizeMismatch",
    "Source",
    "SourceFailed",
    "Statistics",
    "Stream",
    "Tee",
    "TimedOut",
    "Unsupported",
    "Usage",
    "Verified",
    "VerifyProgress",
    "Writer",
    "status_name",
    "version",
    "version_number",
]
