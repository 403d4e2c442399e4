#!/usr/bin/env python3
"""callbacks.py CACHE_DIR [DRIVER]: a source, a stream's source, a fetch, an inspector and a log function."""

import io
import sys

from image_cache import Cache, Driver, FetchWriter, LogLevel, Refused, SourceFailed

STORE = {"cirros": b"0123456789", "debian": b"debian" * 3}  # the agent's remote store

def log(level: LogLevel, message: str) -> None:  # it must not call the library
    print(f"{level.name}: {message}", file=sys.stderr)

def inspect(image_id: str, fd: int, length: int) -> None:  # before an image is published
    if length > 100:
        raise ValueError(f"it has {length} bytes, the quota is 100")

def fetch(image_id: str, writer: FetchWriter) -> None:  # a prefetch commits what it wrote, if it does not raise
    writer.expect_size(len(STORE[image_id]))
    writer.write(STORE[image_id])

def read_debian(offset: int, size: int) -> bytes:  # the source of a stream
    return STORE["debian"][offset : offset + size]

def broken(size: int) -> bytes:  # the source of a tee
    raise ConnectionError("the store is gone")

driver = Driver[(sys.argv[2:] or ["sqlite"])[0].upper()]
with Cache(sys.argv[1], driver=driver, log=log, inspector=inspect) as cache:
    with cache.tee("fedora", io.BytesIO(b"teateatea"), size=9) as tee:  # a file, or a function of a size
        print("tee:", tee.read().decode())
    with cache.stream("debian", read_debian, size=18) as stream:
        for chunk in stream:
            print("stream:", chunk.decode())
    try:
        with cache.tee("broken", broken) as tee:
            tee.read()
    except SourceFailed as error:
        print(f"tee: {error.name}, because of {error.__cause__!r}")
    for image_id in ("cirros", "missing"):
        cache.queue_image(image_id)
    result = cache.prefetch(fetch)
    print(f"prefetch: {result.fetched} fetched, {result.failed} failed: {result.errors}")
    try:
        with cache.begin_write("large") as writer:
            writer.write(bytes(101))
    except Refused as error:
        print("commit:", error)
    print("cached:", ", ".join(image.image_id for image in cache.list_cached()))
