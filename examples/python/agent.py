#!/usr/bin/env python3
"""agent.py CACHE_DIR [DRIVER]: caches, reads, tees, lists and prunes."""

import io
import sys

from image_cache import Cache, Driver

directory, driver = sys.argv[1], Driver[(sys.argv[2:] or ["sqlite"])[0].upper()]

with Cache(directory, max_size=15, driver=driver) as cache:
    with cache.begin_write("cirros", size=10) as writer:  # commits at its end, and aborts if its body raises
        writer.write(b"01234")
        writer.write(b"56789")
    print("cached cirros: 10 bytes")

    with cache.open_for_read("cirros") as reader:
        print("read cirros:", reader.read().decode())

    store = io.BytesIO(b"teateatea")
    with cache.tee("fedora", store, refuse_empty=True) as tee:
        data = b"".join(tee)
        print(f"tee fedora: {data.decode()}, {'cached' if tee.is_caching else 'not cached'}")

    for image in cache.list_cached():
        print(f"listed {image.image_id}: {image.size} bytes, hits: {image.hits}")

    pruned = cache.prune()
    print(f"pruned: {pruned.images} image, {pruned.bytes} bytes")
