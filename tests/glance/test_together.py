"""Glance and the library work on one directory at the same time, in processes of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DRIVERS, LIBRARY
from contents import content
from glance_side import OURS
from worker import IDS, MAX_SIZE, size_of

SECONDS = os.environ.get("SECONDS_TOGETHER", "30")

# What docs/glance.md names. Glance: an image was removed, or cached by the other side, within one of its calls.
NAMED = {
    "glance": [
        r"read: FileNotFoundError: ",
        r"read: OSError: \[Errno 34\] ",
        r"other: FileNotFoundError: ",
        r"other: TypeError: 'NoneType' object is not subscriptable",
    ],
    "ours": [r"read: Failure: IMAGE_CACHE_ERROR_NOT_FOUND: "],
}
NAMED_IN_LOG = {
    "glance": [
        r"Error executing SQLite call. Got error: UNIQUE constraint failed: cached_images.image_id",
        r"Exception encountered while tee'ing image '[^']*' into cache: (.|\n)*(UNIQUE constraint failed|No such file or directory)",
        r"Fetch of cache file failed|\('?\"?Fetch of cache file failed",
        r"\s*As centralized database will now be used",
    ],
    "ours": [],
}


class Worker:
    def __init__(self, side, driver, directory, other, seed):
        command = [sys.executable, Path(__file__).with_name("worker.py")]
        command += [side, driver, directory, other, SECONDS, str(seed)]
        self.side = side
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            pytest.fail(self.process.communicate()[1])

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """What it did. Wrong bytes end it with a message."""
        out, error = self.process.communicate(timeout=float(SECONDS) + 60)
        assert self.process.returncode == 0, error[-2000:]
        return json.loads(out)

    def check(self, report):
        for line in report["errors"]:
            assert any(re.match(named, line) for named in NAMED[self.side]), f"{self.side}: {line}"
        for line in report["log"]:
            assert any(re.match(named, line) for named in NAMED_IN_LOG[self.side]), f"{self.side} logged: {line}"


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_wrong_is_delivered_while_both_work_on_one_directory(driver, directory, database, ours):
    # Glance starts first: it does not start while its database is locked.
    workers = [Worker("glance", driver, directory, database, 1)]
    workers += [Worker("ours", OURS[driver], directory, LIBRARY, seed) for seed in (2, 3)]
    try:
        for worker in workers:
            worker.begin()
        reports = [worker.end() for worker in workers]
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    for worker, report in zip(workers, reports):
        print(driver, worker.side, report["calls"], report["errors"], len(report["log"]), "lines logged")
    for worker, report in zip(workers, reports):
        worker.check(report)
        assert report["calls"]["deliver"] > 10 and report["calls"]["read"] > 10
    # Afterwards, both agree on what is cached, and each byte of it is right.
    with ours(OURS[driver]) as cache:
        rows = {row["image_id"]: row["size"] for row in cache.list_cached()}
        present = {name for name in os.listdir(directory) if name in IDS}
        assert set(rows) == present
        assert cache.cache_size() == sum(rows.values()) == sum(os.path.getsize(directory / name) for name in present)
        for image_id in rows:
            assert cache.read(image_id).encode("latin-1") == content(image_id, size_of(image_id))
        cache.prune_to(MAX_SIZE)
        assert cache.cache_size() <= MAX_SIZE
        cache.clean(0)
    assert os.listdir(directory / "incomplete") == [] and os.listdir(directory / "invalid") == []
