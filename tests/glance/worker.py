"""One of the processes that work on a directory at the same time. It checks every byte that it is served.

    worker.py glance DRIVER DIRECTORY DATABASE SECONDS SEED
    worker.py ours DRIVER DIRECTORY LIBRARY SECONDS SEED

It says "ready", and begins when it reads a line. Its last line is a JSON object: how often each call succeeded, how often it
failed with which error, and what was logged as a warning or an error.
"""

import json
import logging
import random
import sys
import time
from collections import Counter

from contents import content

IDS = [f"image-{number}" for number in range(12)]
# Of all images together, about half fit.
MAX_SIZE = 1_500_000


def size_of(image_id):
    return 1000 + int(image_id.rsplit("-", 1)[1]) * 40_000


def check(image_id, data, what):
    if data != content(image_id, size_of(image_id)):
        sys.exit(f"{what} of {image_id} has wrong bytes: {len(data)} of {size_of(image_id)}")


class LogList(logging.Handler):
    """Keeps what is logged as a warning or an error, with the exception."""

    def __init__(self, lines):
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record):
        cause = f" ({record.exc_info[0].__name__}: {record.exc_info[1]})" if record.exc_info else ""
        self.lines.append(f"{record.msg % record.args if record.args else record.msg}{cause}")


class GlanceWorker:
    def __init__(self, driver, directory, database):
        import glance_side

        # With the driver centralized_db, only the library prunes: see docs/glance.md.
        max_size = 1 << 40 if driver == "centralized_db" else MAX_SIZE
        self.glance = glance_side.Glance(driver, directory, database, node=f"http://{directory}", max_size=max_size)
        self.log = []
        logging.getLogger().addHandler(LogList(self.log))

    def deliver(self, image_id):
        check(image_id, self.glance.deliver(image_id, content(image_id, size_of(image_id))), "a delivery by Glance")

    def read(self, image_id):
        if self.glance.cache.is_cached(image_id):
            with self.glance.cache.open_for_read(image_id) as file:
                # Before the end of the hit, which can fail.
                check(image_id, file.read(), "a hit of Glance")

    def others(self, image_id):
        cache = self.glance.cache
        return [
            lambda: cache.get_cached_images(),
            lambda: cache.get_cache_size(),
            lambda: cache.get_hit_count(image_id),
            lambda: cache.queue_image(image_id),
            lambda: cache.get_queued_images(),
            lambda: cache.delete_queued_image(image_id),
            lambda: cache.delete_cached_image(image_id),
            lambda: cache.clean(),
            self.prune,
        ]

    def prune(self):
        self.glance.cache.prune()

    def close(self):
        pass


class OurWorker:
    def __init__(self, driver, directory, library):
        from our_side import Cache

        self.log = []
        self.cache = Cache(library, directory, driver, MAX_SIZE, lambda level, text: level <= 1 and self.log.append(text))

    def deliver(self, image_id):
        check(image_id, self.cache.tee(image_id, content(image_id, size_of(image_id))), "a delivery by the library")

    def read(self, image_id):
        if self.cache.is_cached(image_id):
            check(image_id, self.cache.read_bytes(image_id), "a hit of the library")

    def others(self, image_id):
        return [
            self.cache.list_cached,
            self.cache.cache_size,
            lambda: self.cache.hit_count(image_id),
            lambda: self.cache.queue(image_id),
            self.cache.list_queued,
            lambda: self.cache.delete(image_id),
            lambda: self.cache.clean(),
            lambda: self.cache.prune_to(MAX_SIZE),
        ]

    def close(self):
        self.cache.close()


def main():
    side, driver, directory, other, seconds, seed = sys.argv[1:]
    worker = (GlanceWorker if side == "glance" else OurWorker)(driver, directory, other)
    print("ready", flush=True)
    sys.stdin.readline()
    chance = random.Random(int(seed))
    calls, errors = Counter(), Counter()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        image_id = chance.choice(IDS)
        other_calls = worker.others(image_id)
        choices = [("deliver", worker.deliver), ("read", worker.read), ("other", lambda _: chance.choice(other_calls)())]
        name, call = chance.choices(choices, [4, 8, 1])[0]
        try:
            call(image_id)
            calls[name] += 1
        except Exception as error:
            errors[f"{name}: {type(error).__name__}: {error}"[:300]] += 1
    worker.close()
    print(json.dumps({"calls": calls, "errors": errors, "log": worker.log}))


if __name__ == "__main__":
    main()
