"""Glance has filled a directory. The library opens it in place."""

import os
import time

import pytest
from glance.common.exception import GlanceException

from conftest import DRIVERS
from contents import content
from glance_side import OURS

# Ids as Glance has them, and sizes: with an empty image, and one of several pieces.
IMAGES = {
    "71c675ab-d94f-49cd-a114-e12490b328d9": 70_000,
    "0b1e8f4e-55a6-4b8f-9c7c-7f2f2f4c3a10": 1,
    "c0ffee00-1111-4222-8333-444455556666": 300_000,
    "2": 12_345,
}
# Least recently accessed first; the reads give the hits.
READS = ["2", "71c675ab-d94f-49cd-a114-e12490b328d9", "71c675ab-d94f-49cd-a114-e12490b328d9"]
READS += ["c0ffee00-1111-4222-8333-444455556666", "2", "0b1e8f4e-55a6-4b8f-9c7c-7f2f2f4c3a10"]


def fill(glance, directory):
    """What a node has after a day: images, a queue, a failed fetch, and one that is still going on."""
    for image_id, size in IMAGES.items():
        assert glance.deliver(image_id, content(image_id, size)) == content(image_id, size)
    for image_id in READS:
        assert glance.read(image_id) == content(image_id, IMAGES[image_id])
        # Each access in a second of its own: the xattr driver of Glance orders by whole seconds.
        set_back(glance, directory)
    assert glance.cache.queue_image("queued-1") and glance.cache.queue_image("queued-2")
    os.utime(directory / "queue/queued-1", (1, 1))

    with pytest.raises(GlanceException):
        list(glance.cache.get_caching_iter("failed", "the checksum of other bytes", iter([b"the bytes"])))
    assert (directory / "invalid/failed").exists()
    going_on = glance.cache.get_caching_iter("going on", None, iter([b"the first piece", b"the second"]))
    next(going_on)
    return going_on


def set_back(glance, directory):
    """Makes all accesses so far ten seconds older, instead of waiting."""
    if glance.driver == "xattr":
        for image_id in IMAGES:
            path = directory / image_id
            times = os.stat(path)
            os.utime(path, ns=(times.st_atime_ns - 10**10, times.st_mtime_ns))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_directory_opens_in_place(driver, glance, ours, directory):
    theirs = glance(driver)
    going_on = fill(theirs, directory)
    listing, order, size = theirs.listing(), theirs.order(), theirs.cache.get_cache_size()
    assert len(order) == len(IMAGES) and order[-2:] == READS[-2:]
    with ours(OURS[driver]) as cache:
        rows = cache.list_cached()
        assert {row["image_id"]: row["size"] for row in rows} == {name: item[0] for name, item in listing.items()}
        if driver != "centralized_db":
            # Those of the centralized database are in no file: see test_centralized.py.
            assert {row["image_id"]: row["hits"] for row in rows} == {name: item[1] for name, item in listing.items()}
            assert [row["image_id"] for row in sorted(rows, key=lambda row: row["last_accessed"])] == order
        assert cache.cache_size() == size == sum(IMAGES.values())
        assert cache.list_queued() == theirs.cache.get_queued_images() == ["queued-1", "queued-2"]
        assert cache.list_invalid() == ["failed"]
        assert cache.list_incomplete() == ["going on"]
        for image_id, expected in IMAGES.items():
            assert cache.read(image_id).encode("latin-1") == content(image_id, expected)
        # The first verification stores their digests, the second one compares.
        assert cache.verify() == [0, 0, 0, len(IMAGES)]
        assert cache.verify() == [len(IMAGES), 0, 0, 0]
        # The one that Glance still fetches stays, the failed one goes.
        assert cache.clean() == 1 and cache.list_incomplete() == ["going on"]
        assert [line for line in cache.log if "danger" in line or "damage" in line] == []
    going_on.close()


@pytest.mark.parametrize("driver", ["sqlite", "xattr"])
def test_prune_evicts_in_the_order_of_glance(driver, glance, ours, directory):
    theirs = glance(driver)
    fill(theirs, directory).close()
    order = theirs.order()
    with ours(OURS[driver]) as cache:
        size = cache.cache_size()
        for victim in order[:-1]:
            size -= IMAGES[victim]
            assert cache.prune_to(size) == [1, IMAGES[victim]]
            assert not cache.is_cached(victim)
        assert [row["image_id"] for row in cache.list_cached()] == order[-1:]
    assert theirs.order() == order[-1:]


@pytest.mark.parametrize("driver", DRIVERS)
def test_files_that_glance_keeps_beside_the_images_are_no_images(driver, glance, ours, directory):
    theirs = glance(driver)
    theirs.deliver("1", content("1", 100))
    # What its prefetcher, its API's clean and prune, and its move to the centralized database lock.
    from oslo_concurrency import lockutils

    for name in ("glance-cache", "glance-cache-clean", "glance-cache-prune", "sqlite_centralized_migrate"):
        with lockutils.lock(name, external=True, lock_path=str(directory)):
            pass
    # The xattr driver leaves this file where attributes cannot be set.
    (directory / "checkme").write_bytes(b"XXX")
    with ours(OURS[driver]) as cache:
        assert [row["image_id"] for row in cache.list_cached()] == ["1"]
        assert cache.cache_size() == 100
        assert cache.prune_to(0) == [1, 100]
    assert (directory / "glance-cache").exists()


def test_an_access_by_glance_counts_while_the_library_has_the_directory_open(glance, ours, directory):
    theirs = glance("sqlite")
    for image_id in ("1", "2"):
        theirs.deliver(image_id, content(image_id, 10))
    with ours("sqlite") as cache:
        theirs.read("1")
        assert cache.hit_count("1") == 1
        assert cache.prune_to(10) == [1, 10] and cache.is_cached("1")
        cache.read("1")
        assert cache.hit_count("1") == 2
        assert theirs.cache.get_hit_count("1") == 2
        before = time.time()
        assert theirs.cache.get_cached_images()[0]["last_accessed"] <= before
