"""Does the work of `compared.rs` with Glance's image cache, and prints one JSON object per figure.

Arguments: sqlite or xattr, a directory, comma-separated numbers of images, bytes of a large image, bytes of its chunks.
"""
import hashlib
import io
import json
import logging
import os
import statistics
import sys
import time
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from oslo_config import cfg
from glance import image_cache
import glance.image_cache.drivers.sqlite  # registers its option

CONF = cfg.CONF
CONF([], project="glance", default_config_files=[])
BYTES = b"Z" * 1024
OPERATIONS = 2000


def name(number):
    return "image-%07d" % number


def new_cache(driver, directory):
    os.mkdir(directory)
    CONF.set_override("image_cache_dir", directory)
    CONF.set_override("image_cache_driver", driver)
    CONF.set_override("image_cache_max_size", 1 << 40)
    return image_cache.ImageCache()


def report(operation, seconds, images=None):
    print(json.dumps({"operation": operation, "images": images, "seconds": seconds}), flush=True)


def seconds(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def median(function, times):
    return statistics.median(seconds(function, number) for number in range(times))


def many(driver, directory, count, first):
    cache = new_cache(driver, directory)

    def hit(number):
        with cache.open_for_read(name(number % count)) as image:
            image.read()

    committed = median(lambda number: cache.cache_image_file(name(number), io.BytesIO(BYTES)), count)
    if first:
        report("commit", committed)
    report("hit", median(hit, OPERATIONS), count)
    report("is_cached", median(lambda number: cache.is_cached(name(number % count)), OPERATIONS), count)
    report("cache size", seconds(cache.get_cache_size), count)
    report("list, per image", seconds(cache.get_cached_images) / count, count)
    # To prune half of many images takes too long, and the cost per victim is the same for fewer.
    victims = count // 2 if driver == "sqlite" or count <= 1000 else 200
    CONF.set_override("image_cache_max_size", (count - victims) * len(BYTES))
    report("prune, per victim", seconds(cache.prune) / victims, count)


def large(driver, directory, length, chunk):
    cache = new_cache(driver, directory)
    piece = os.urandom(chunk)
    digest = hashlib.md5()
    for _ in range(length // chunk):
        digest.update(piece)

    def write():
        for _ in cache.get_caching_iter("large", digest.hexdigest(), (piece for _ in range(length // chunk))):
            pass

    def read():
        buffer = bytearray(chunk)
        with cache.open_for_read("large") as image:
            while image.readinto(buffer):
                pass

    report("write", seconds(write))
    assert cache.is_cached("large")
    report("read", seconds(read))


driver, directory, counts, length, chunk = sys.argv[1:]
for index, count in enumerate(counts.split(",")):
    many(driver, os.path.join(directory, count), int(count), index == 0)
large(driver, os.path.join(directory, "large"), int(length), int(chunk))
