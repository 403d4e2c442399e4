"""A running glance-api fills a directory; the library takes over, and hands back; glance-api serves from it over HTTP."""

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from conftest import DRIVERS
from glance_side import OURS

SIZE = 300_000
POLICIES = ("cache_list", "cache_image", "cache_delete", "cache_prune", "cache_clean")


class GlanceApi:
    def __init__(self, base, directory, driver, database):
        for name in ("conf", "store", "staging"):
            (base / name).mkdir(exist_ok=True)
        # Without it, the driver sqlite locks files in the cache's directory, and the others cannot clean, or move rows.
        locks = "" if driver == "sqlite" else f"[oslo_concurrency]\nlock_path = {base}/locks\n"
        paste = Path(sys.prefix) / "etc/glance/glance-api-paste.ini"
        (base / "conf/glance-api.conf").write_text(
            f"""[DEFAULT]
image_cache_dir = {directory}
image_cache_driver = {driver}
worker_self_reference_url = http://{base.name}:9292
enabled_import_methods = []
node_staging_uri = file://{base}/staging
[database]
connection = {database}
[glance_store]
stores = file
default_store = file
filesystem_store_datadir = {base}/store
[paste_deploy]
flavor = cachemanagement
config_file = {paste}
{locks}[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
policy_file = {base}/conf/policy.yaml
"""
        )
        # There is no Keystone: anybody may do anything.
        (base / "conf/policy.yaml").write_text("".join(f'"{name}": "@"\n' for name in POLICIES))
        self.base = base

    def __enter__(self):
        command = [sys.executable, Path(__file__).with_name("server.py"), self.base / "conf"]
        self.errors = open(self.base / "glance-api.log", "a")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        lines = iter(self.process.stdout.readline, "")
        port = next((line.split()[1] for line in lines if line.startswith("port ")), None)
        assert port, (self.base / "glance-api.log").read_text()
        self.url = f"http://127.0.0.1:{port}/v2"
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=60)
        self.errors.close()

    def call(self, method, path, data=None, kind="application/octet-stream"):
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def create(self, data):
        image = {"name": "image", "disk_format": "raw", "container_format": "bare"}
        image_id = json.loads(self.call("POST", "/images", json.dumps(image).encode(), "application/json"))["id"]
        self.call("PUT", f"/images/{image_id}/file", data)
        return image_id

    def download(self, image_id):
        return self.call("GET", f"/images/{image_id}/file")

    def cached(self):
        return {row["image_id"]: (row["size"], row["hits"]) for row in json.loads(self.call("GET", "/cache"))["cached_images"]}


def data_of(number):
    return hashlib.shake_128(bytes([number])).digest(SIZE + number)


def until(condition):
    """Glance enters a change in its cache after it has answered."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "Glance did not do it within a minute"
        time.sleep(0.02)


@pytest.mark.parametrize("driver", DRIVERS)
def test_glance_api_serves_what_the_library_cached(driver, directory, ours, request):
    database = request.getfixturevalue("postgresql" if driver == "centralized_db" else "database")
    api = GlanceApi(directory.parent, directory, driver, database)
    with api:
        images = [api.create(data_of(number)) for number in range(3)]
        # A miss, which fills the cache, and two hits.
        for hits in range(3):
            assert api.download(images[0]) == data_of(0)
            until(lambda: api.cached() == {images[0]: (SIZE, hits)})
    with ours(OURS[driver]) as cache:
        (row,) = cache.list_cached()
        assert (row["image_id"], row["size"]) == (images[0], SIZE)
        assert row["hits"] == (0 if driver == "centralized_db" else 2)
        assert cache.read(images[0]).encode("latin-1") == data_of(0)
        cache.write_data(images[1], data_of(1).decode("latin-1"))
    # From here on, nothing but the cache has these two.
    for image_id in images[:2]:
        (directory.parent / "store" / image_id).unlink()
    with api:
        # With the driver centralized_db, its row of the first image stays, and it has moved the one of the second.
        hits = 2 if driver == "centralized_db" else 3
        assert api.cached() == {images[0]: (SIZE, hits), images[1]: (SIZE + 1, 0)}
        for number in range(3):
            assert api.download(images[number]) == data_of(number)
        expected = {images[0]: (SIZE, hits + 1), images[1]: (SIZE + 1, 1), images[2]: (SIZE + 2, 0)}
        until(lambda: api.cached() == expected)
        api.call("DELETE", f"/cache/{images[0]}")
        until(lambda: images[0] not in api.cached() and not (directory / images[0]).exists())
        api.call("POST", "/cache/clean")
        api.call("POST", "/cache/prune")
    with ours(OURS[driver]) as cache:
        assert {row["image_id"]: row["size"] for row in cache.list_cached()} == {images[1]: SIZE + 1, images[2]: SIZE + 2}
        assert cache.read(images[2]).encode("latin-1") == data_of(2)
