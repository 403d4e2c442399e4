"""The library has filled a directory, and closed it. Glance goes on with it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DRIVERS
from contents import content
from glance_side import OURS

IMAGES = {"71c675ab-d94f-49cd-a114-e12490b328d9": 70_000, "one byte": 1, "b": 300_000, "a": 12_345}
# Least recently accessed first, with hits.
READS = ["b", "71c675ab-d94f-49cd-a114-e12490b328d9", "a", "a", "one byte", "one byte", "one byte"]
HITS = {image_id: READS.count(image_id) for image_id in IMAGES}


def fill(ours, driver):
    """Images, a queue, a failed fetch, and one whose writer was killed."""
    with ours(driver) as cache:
        for image_id, size in IMAGES.items():
            cache.write(image_id, size)
        for image_id in READS:
            cache.read(image_id)
        assert cache.queue("queued-1") and cache.queue("queued-2")
        cache.abort("failed", 1000)
        cache.leave_incomplete("half", 500)
    with ours(driver) as cache:
        # What an operator calls before: it removes what a killed writer left.
        cache.clean(0)
    with ours(driver) as cache:
        cache.abort("failed again", 1000)


def regular_files(directory):
    return {name for name in os.listdir(directory) if (directory / name).is_file()}


def hand_back(theirs):
    """With the driver centralized_db, glance-api moves the rows of cache.db to its database when it starts."""
    if theirs.driver == "centralized_db":
        theirs.take_over_sqlite()


@pytest.fixture
def start(glance, request):
    """Starts Glance. It moves rows to its database only if that is no SQLite: see test_centralized.py."""

    def start(driver):
        if driver == "centralized_db":
            return glance(driver, database=request.getfixturevalue("postgresql"))
        return glance(driver)

    return start


@pytest.mark.parametrize("driver", DRIVERS)
def test_glance_lists_and_serves_what_the_library_cached(driver, start, ours, directory):
    fill(ours, OURS[driver])
    theirs = start(driver)
    # Nothing but images counts, not before a statement of Glance either.
    assert theirs.cache.get_cache_size() == sum(IMAGES.values())
    hand_back(theirs)
    assert theirs.listing() == {image_id: (size, HITS[image_id]) for image_id, size in IMAGES.items()}
    if driver != "xattr":
        # The xattr driver of Glance has the order in whole seconds only.
        assert theirs.order() == list(dict.fromkeys(READS))
    assert theirs.cache.get_queued_images() == ["queued-1", "queued-2"]
    for image_id, size in IMAGES.items():
        assert theirs.cache.is_cached(image_id)
        assert theirs.cache.get_image_size(image_id) == size
        assert theirs.read(image_id) == content(image_id, size)
        assert theirs.cache.get_hit_count(image_id) == HITS[image_id] + 1
    # It caches more, also what was queued.
    assert theirs.deliver("queued-1", content("queued-1", 999)) == content("queued-1", 999)
    assert theirs.cache.get_queued_images() == ["queued-2"]
    assert theirs.listing()["queued-1"] == (999, 0)
    assert theirs.cache.get_cache_size() == sum(IMAGES.values()) + 999


@pytest.mark.parametrize("driver", DRIVERS)
def test_glance_prunes_cleans_and_deletes_and_leaves_no_wreck(driver, start, ours, directory):
    fill(ours, OURS[driver])
    theirs = start(driver)
    hand_back(theirs)
    theirs.set_max_size(sum(IMAGES.values()) - IMAGES["b"])
    if driver == "xattr":
        os.utime(directory / "b", (1, 1))
    assert theirs.cache.prune() == (1, IMAGES["b"])
    assert set(theirs.listing()) == set(IMAGES) - {"b"} and not (directory / "b").exists()
    theirs.cache.clean()
    assert os.listdir(directory / "invalid") == [] and os.listdir(directory / "incomplete") == []
    theirs.cache.delete_cached_image("a")
    assert not theirs.cache.is_cached("a")
    assert theirs.cache.delete_all_queued_images() == 2
    theirs.cache.delete_all_cached_images()
    assert theirs.listing() == {} and theirs.cache.get_cache_size() == 0
    assert regular_files(directory) <= {"cache.db", "image_cache_db_init"}
    # The library goes on with what Glance left.
    assert theirs.deliver("new", content("new", 100)) == content("new", 100)
    with ours(OURS[driver]) as cache:
        assert [row["image_id"] for row in cache.list_cached()] == ["new"] and cache.cache_size() == 100
        assert not [line for line in cache.log if "damaged" in line], cache.log


@pytest.mark.parametrize("driver", ["sqlite", "xattr"])
def test_the_commands_of_glance_work_on_the_directory(driver, ours, directory):
    fill(ours, OURS[driver])
    configuration = directory.parent / "glance-cache.conf"
    configuration.write_text(
        f"[DEFAULT]\nimage_cache_dir = {directory}\nimage_cache_driver = {driver}\nimage_cache_max_size = 300001\n"
    )
    for command in ("glance-cache-pruner", "glance-cache-cleaner"):
        program = Path(sys.executable).with_name(command)
        done = subprocess.run([program, "--config-file", configuration], capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert os.listdir(directory / "invalid") == []
    with ours(OURS[driver]) as cache:
        assert cache.cache_size() <= 300_001
        assert [row["image_id"] for row in cache.list_cached()] == sorted(regular_files(directory) & set(IMAGES))


def test_a_plain_sqlite_connection_opens_the_index(ours, directory):
    fill(ours, "sqlite")
    before = regular_files(directory)
    connection = sqlite3.connect(directory / "cache.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.execute("UPDATE cached_images SET hits = hits + 1 WHERE image_id = 'a'")
    connection.commit()
    assert connection.execute("SELECT hits FROM cached_images WHERE image_id = 'a'").fetchone() == (HITS["a"] + 1,)
    connection.close()
    # No log or shared memory of the mode WAL, before or after.
    assert not [name for name in before | regular_files(directory) if name.endswith(("-wal", "-shm"))]
    with ours("sqlite") as cache:
        assert cache.hit_count("a") == HITS["a"] + 1
