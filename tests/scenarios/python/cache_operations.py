"""Operations on a cache: open, close, queries, listings, the queue, deletes, prune and clean."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, Optional

import disk
import image_cache
import words
from state import OpenCache, Scenario, Skip
from words import BadLine, escape_text

UNKNOWN = 99  # no driver, durability or limit mode has this number
NAMED: dict[str, dict[bytes, int]] = {
    "driver": {
        b"sqlite": image_cache.Driver.SQLITE,
        b"xattr": image_cache.Driver.XATTR,
        b"xattr_or_sqlite": image_cache.Driver.XATTR_OR_SQLITE,
    },
    "durability": {b"none": image_cache.Durability.NONE, b"full": image_cache.Durability.FULL},
    "limit": {b"soft": image_cache.LimitMode.SOFT, b"hard": image_cache.LimitMode.HARD},
}
NUMBERS = ("max_size", "max_pinned", "stall_time", "min_free", "min_free_percent", "min_free_inodes")


def open_cache(scenario: Scenario, name: bytes, *options: bytes) -> str:
    messages: list[str] = []
    chosen: dict[str, Any] = {"driver": scenario.driver, "log": lambda level, message: messages.append(message)}
    directory = scenario.cache_directory
    if not any(option.startswith(b"driver=") for option in options):
        if scenario.driver == image_cache.Driver.XATTR and not disk.has_user_attributes(scenario.root):
            raise Skip(disk.NO_USER_ATTRIBUTES)
    for option in options:
        key, _, value = option.partition(b"=")
        kind = key.decode()
        if kind in NUMBERS:
            chosen[kind] = words.number(value)
        elif kind in NAMED:
            chosen["limit_mode" if kind == "limit" else kind] = NAMED[kind].get(value, UNKNOWN)
        elif kind in ("database", "formats"):
            chosen[kind] = value.decode("utf-8", "surrogateescape")
        elif kind == "directory":
            directory = scenario.inside(value)
        else:
            raise BadLine("no such option")
    opened = OpenCache(image_cache.Cache(directory, **chosen), messages)
    scenario.handles[name] = scenario.selected = opened
    return "OK"


def use(scenario: Scenario, opened: OpenCache) -> str:
    scenario.selected = opened
    return "OK"


def close(scenario: Scenario, opened: OpenCache) -> str:
    opened.cache.close()
    scenario.handles = {name: handle for name, handle in scenario.handles.items() if handle is not opened}
    if scenario.selected is opened:
        scenario.selected = None
    return "OK"


def get_driver(scenario: Scenario) -> str:
    return f"OK {scenario.cache.get_driver().name.lower()}"


def has_logged(scenario: Scenario) -> str:
    return f"OK {shown(bool(scenario.selected and scenario.selected.log_messages))}"


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def query(method: Callable[..., Any], unit: str = "") -> Callable[..., str]:
    """An operation that prints what a method returns."""

    def operation(scenario: Scenario, *arguments: Any) -> str:
        return f"OK {shown(method(scenario.cache, *arguments))}{unit}"

    return operation


def command(method: Callable[..., None]) -> Callable[..., str]:
    """An operation that prints the status only."""

    def operation(scenario: Scenario, *arguments: Any) -> str:
        method(scenario.cache, *arguments)
        return "OK"

    return operation


def wait_cached(scenario: Scenario, image_id: bytes, milliseconds: int) -> str:
    return f"OK {shown(scenario.cache.wait_cached(image_id, milliseconds / 1000))}"


# ---- Lists ----


def listed(items: Iterable[str]) -> str:
    return "OK " + (" ".join(items) or "none")


def _image(image: image_cache.Image) -> str:
    digest = "-" if image.digest is None else "crc" if image.digest.startswith("crc64nvme:") else image.digest
    return f"{escape_text(image.image_id)},{image.size},{image.hits},{digest}"


def _uncached(image: image_cache.Image) -> str:
    reason = "-" if image.reason is None else escape_text(image.reason)
    return f"{escape_text(image.image_id)},{image.size},{reason}"


def list_cached(scenario: Scenario) -> str:
    return listed(map(_image, scenario.cache.list_cached()))


def get_image(scenario: Scenario, image_id: bytes) -> str:
    return f"OK {_image(scenario.cache.get_image(image_id))}"


def list_queued(scenario: Scenario) -> str:
    return listed(escape_text(image.image_id) for image in scenario.cache.list_queued())


def list_incomplete(scenario: Scenario) -> str:
    return listed(map(_uncached, scenario.cache.list_incomplete()))


def list_invalid(scenario: Scenario) -> str:
    return listed(map(_uncached, scenario.cache.list_invalid()))


def access_order(scenario: Scenario) -> str:
    images = sorted(scenario.cache.list_cached(), key=lambda image: image.last_accessed_ns)
    return listed(escape_text(image.image_id) for image in images)


def pinned(scenario: Scenario, image_id: bytes) -> str:
    image = scenario.cache.get_image(image_id)
    if not image.is_pinned:
        return "OK no"
    if image.pinned_until_ns == image_cache.FOREVER:
        return "OK for_life"
    minute = 60 * 10**9
    return f"OK {(image.pinned_until_ns - time.time_ns() + minute - 1) // minute} min"


# ---- Prune, verify, sizes ----


def prune(method: Callable[..., image_cache.Pruned]) -> Callable[..., str]:
    def operation(scenario: Scenario, *arguments: int) -> str:
        pruned = method(scenario.cache, *arguments)
        return f"OK {pruned.images} images {pruned.bytes} bytes"

    return operation


def get_usage(scenario: Scenario) -> str:
    usage = scenario.cache.get_usage()
    mebibytes = ",".join(str(size >> 20) for size in usage[:5])
    return f"OK {mebibytes} {'hard' if usage.is_hard else 'soft'} {usage.limit}"


def statistics(scenario: Scenario, *names: bytes) -> str:
    values = scenario.cache.get_statistics()._asdict()
    try:
        return " ".join(["OK", *(str(values[name.decode()]) for name in names)])
    except KeyError:
        raise BadLine("no such field") from None


def verify_all(scenario: Scenario, *options: bytes) -> str:
    return _verify(scenario, None, options)


def verify(scenario: Scenario, image_id: bytes, *options: bytes) -> str:
    return _verify(scenario, image_id, options)


def _verify(scenario: Scenario, image_id: Optional[bytes], options: Iterable[bytes]) -> str:
    chosen = {b"rate": 0, b"skip": 0, b"stop": 0}
    for option in options:
        key, _, value = option.partition(b"=")
        if key not in chosen:
            raise BadLine("no such option")
        chosen[key] = words.number(value)
    calls = 0

    def stop(image_id: str, done: int, total: int) -> bool:
        nonlocal calls
        calls += 1
        return calls == chosen[b"stop"]

    result = scenario.cache.verify(
        image_id, bytes_per_second=chosen[b"rate"], skip_seconds=chosen[b"skip"], progress=stop
    )
    return (
        f"OK {result.verified} verified {result.failed} failed {result.unreadable} unreadable "
        f"{result.without_digest} without {result.skipped} skipped {result.bytes_read} bytes"
        f"{' stopped' if result.stopped else ''}"
    )


Cache = image_cache.Cache
OPERATIONS = {
    "open": ("C*", open_cache),
    "use": ("c", use),
    "close": ("c", close),
    "get_driver": ("@", get_driver),
    "has_logged": ("@", has_logged),
    "is_cached": ("@t", query(Cache.is_cached)),
    "is_being_cached": ("@t", query(Cache.is_being_cached)),
    "is_queued": ("@t", query(Cache.is_queued)),
    "is_cacheable": ("@t", query(Cache.is_cacheable)),
    "wait_cached": ("@tn", wait_cached),
    "get_cache_size": ("@", query(Cache.get_cache_size)),
    "get_image_size": ("@t", query(Cache.get_image_size)),
    "get_hit_count": ("@t", query(Cache.get_hit_count)),
    "list_cached": ("@", list_cached),
    "list_queued": ("@", list_queued),
    "get_image": ("@t", get_image),
    "list_incomplete": ("@", list_incomplete),
    "list_invalid": ("@", list_invalid),
    "access_order": ("@", access_order),
    "queue_image": ("@t", query(Cache.queue_image)),
    "delete_queued_image": ("@t", command(Cache.delete_queued_image)),
    "delete_all_queued_images": ("@", query(Cache.delete_all_queued_images, " deleted")),
    "delete_cached_image": ("@t", command(Cache.delete_cached_image)),
    "delete_unused_image": ("@t", query(Cache.delete_unused_image)),
    "delete_all_cached_images": ("@", query(Cache.delete_all_cached_images, " deleted")),
    "set_max_size": ("@n", command(Cache.set_max_size)),
    "get_usage": ("@", get_usage),
    "prune": ("@", prune(Cache.prune)),
    "prune_to": ("@n", prune(Cache.prune_to)),
    "make_room": ("@n", prune(Cache.make_room)),
    "pin": ("@ttn", command(Cache.pin)),
    "unpin": ("@tt", command(Cache.unpin)),
    "pinned": ("@t", pinned),
    "statistics": ("@*", statistics),
    "verify_all": ("@*", verify_all),
    "verify": ("@t*", verify),
    "clean": ("@s", query(Cache.clean, " removed")),
}
