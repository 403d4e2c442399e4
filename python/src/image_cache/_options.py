"""The options of Cache(), as the library takes them."""

from __future__ import annotations

from typing import Any, Iterable, Optional, TypedDict, Union

from . import _callbacks
from ._arguments import encoded, number
from ._library import call, ffi, lib


class Options(TypedDict, total=False):
    """What Cache() takes by keyword. An option that is missing or None has the library's default.

    driver                   Driver.SQLITE (the default), XATTR, or XATTR_OR_SQLITE: that of the directory, else one that works
    change_driver            whether the open may change the driver of the directory, or the name of its database: the hits are lost
    max_size                 the maximum size in bytes; 10 GiB by default
    limit_mode               LimitMode.SOFT (the default): what prune prunes to; HARD: it is never exceeded, by no process
    min_free                 so many bytes stay free on the file system
    min_free_percent         so much of its size stays free; of both, the larger one counts
    min_free_inodes          so many inodes stay free
    min_free_inodes_percent  so many of its inodes stay free; of both, the larger one counts
    max_pinned               how much of the maximum size can be pinned, in percent; 50 by default
    stall_time               after how many seconds without a write an image counts as stalled; 86400 by default
    database                 the name of the SQLite index in the directory; "cache.db" by default
    durability               Durability.FULL (the default): a commit waits for the disk; NONE: it does not
    streaming                whether written bytes are dropped from the page cache
    sparse                   whether runs of zeros become holes
    formats                  which of "raw", "qcow2", "vmdk", "vhd", "vhdx", "iso" an image may have; unsafe images are refused
    inspector                called with each image before it is published: its id, a descriptor, its length; it raises to refuse it
    log                      called with the level and the text of each message, on any thread; it must not call the library
    """

    driver: Optional[int]
    change_driver: Optional[bool]
    max_size: Optional[int]
    limit_mode: Optional[int]
    min_free: Optional[int]
    min_free_percent: Optional[int]
    min_free_inodes: Optional[int]
    min_free_inodes_percent: Optional[int]
    max_pinned: Optional[int]
    stall_time: Optional[int]
    database: Optional[str]
    durability: Optional[int]
    streaming: Optional[bool]
    sparse: Optional[bool]
    formats: Union[str, Iterable[str], None]
    inspector: Optional[_callbacks.Inspector]
    log: Optional[_callbacks.Log]


def build(values: Options) -> tuple[Any, list[Any]]:
    """Options of the library, which the caller frees, and the callbacks, which must live as long as the cache."""
    unknown = set(values) - set(Options.__annotations__)
    if unknown:
        raise TypeError(f"Cache() has no option {sorted(unknown)[0]!r}")
    options = lib.image_cache_options_new()
    try:
        return options, _set_all(options, values)
    except BaseException:
        lib.image_cache_options_free(options)
        raise


def _set_all(options: Any, values: Options) -> list[Any]:
    callbacks = []
    for name, bits, signed in (("driver", 32, True), ("limit_mode", 32, True), ("durability", 32, True),
                               ("max_size", 64, False), ("max_pinned", 32, False), ("stall_time", 64, False)):  # fmt: skip
        value: Any = values.get(name)
        if value is not None:
            call(getattr(lib, f"image_cache_options_set_{name}"), options, number(value, name, bits, signed))
    for name in ("change_driver", "streaming", "sparse"):
        value = values.get(name)
        if value is not None:
            call(getattr(lib, f"image_cache_options_set_{name}"), options, bool(value))
    for name in ("min_free", "min_free_inodes"):
        absolute: Any = values.get(name)
        percent: Any = values.get(f"{name}_percent")
        if absolute is not None or percent is not None:
            call(
                getattr(lib, f"image_cache_options_set_{name}"),
                options,
                number(absolute or 0, name),
                number(percent or 0, f"{name}_percent", 32),
            )
    database, formats = values.get("database"), values.get("formats")
    if database is not None:
        call(lib.image_cache_options_set_database, options, encoded(database, "database"))
    if formats is not None:
        names = formats if isinstance(formats, str) else ",".join(formats)
        call(lib.image_cache_options_set_formats, options, encoded(names, "formats"))
    inspector, log = values.get("inspector"), values.get("log")
    if inspector is not None:
        callbacks.append(_callbacks.inspector(inspector))
        call(lib.image_cache_options_set_inspector, options, callbacks[-1], ffi.NULL)
    if log is not None:
        callbacks.append(_callbacks.log(log))
        call(lib.image_cache_options_set_log, options, callbacks[-1], ffi.NULL)
    return callbacks
