"""The image cache of the installed Glance, as glance-api and the glance-cache commands use it.

Its configuration belongs to the process, so a process has one `Glance` at a time.
"""

import warnings

from contents import md5, pieces

warnings.simplefilter("ignore")
from glance import context, image_cache  # noqa: E402
from glance.common import config  # noqa: E402
from glance.db.sqlalchemy import api as database_api  # noqa: E402
from oslo_db import options as database_options  # noqa: E402
import glance.image_cache.drivers.sqlite  # noqa: E402, F401: registers the name of its database

CONF = config.CONF
# The drivers that Glance 33 has, and the driver of this library that opens the same directory in place.
OURS = {"sqlite": "sqlite", "xattr": "xattr", "centralized_db": "sqlite"}


class Glance:
    """A cache of Glance. `database`: the SQLAlchemy URL of Glance's database, for its driver centralized_db."""

    def __init__(self, driver, directory, database, node="http://node-1", max_size=1 << 40):
        if not CONF._args:
            CONF(["--config-file", "/dev/null"], project="glance")
            database_options.set_defaults(CONF)
        self.driver = driver
        for name, value in {
            "image_cache_dir": str(directory),
            "image_cache_driver": driver,
            "image_cache_max_size": max_size,
            "worker_self_reference_url": node,
        }.items():
            CONF.set_override(name, value)
        if CONF.database.connection != database:
            CONF.set_override("connection", database, group="database")
            database_api.clear_db_env()
        self.cache = image_cache.ImageCache()
        # It falls back to the sqlite driver, with a line in its log, when the driver cannot be used.
        used = type(self.cache.driver).__module__.rsplit(".", 1)[1]
        assert used == driver, f"Glance uses its driver {used} instead of {driver}"

    def set_max_size(self, max_size):
        CONF.set_override("image_cache_max_size", max_size)

    def deliver(self, image_id, data, checksum=True):
        """What the middleware does on a miss: delivers the data, and caches them on the way."""
        iterator = self.cache.get_caching_iter(image_id, md5(data) if checksum else None, pieces(data))
        return b"".join(iterator)

    def read(self, image_id):
        """What the middleware does on a hit."""
        with self.cache.open_for_read(image_id) as file:
            return file.read()

    def listing(self):
        """Sizes and hits, by image."""
        return {row["image_id"]: (row["size"], row["hits"]) for row in self.cache.get_cached_images()}

    def order(self):
        """The images, the least recently accessed first, as its prune takes them."""
        rows = self.cache.get_cached_images()
        return [row["image_id"] for row in sorted(rows, key=lambda row: row["last_accessed"])]

    def take_over_sqlite(self):
        """What glance-api does at its start with the driver centralized_db: moves the rows of cache.db to its database."""
        from glance import sqlite_migration

        sqlite_migration.Migrate(sqlite_migration.get_db_path(), self.cache.driver.db_api).migrate()
