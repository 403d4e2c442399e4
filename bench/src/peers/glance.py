"""Does to Glance's image cache what `compared.rs` does to the others, and prints one JSON object per figure.

Arguments: sqlite or xattr, a folder, numbers of images with commas between, bytes of a large image, bytes of its chunks.
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


def say(operation, seconds, images=None):
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
        say("commit", committed)
    say("hit", median(hit, OPERATIONS), count)
    say("is_cached", median(lambda number: cache.is_cached(name(number % count)), OPERATIONS), count)
    say("cache size", seconds(cache.get_cache_size), count)
    say("list, per image", seconds(cache.get_cached_images) / count, count)
    # Of many images it takes too long to prune half: its cost per victim is the same for fewer.
    victims = count // 2 if driver == "sqlite" or count <= 1000 else 200
    CONF.set_override("image_cache_max_size", (count - victims) * len(BYTES))
    say("prune, per victim", seconds(cache.prune) / victims, count)


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

    say("write", seconds(write))
    assert cache.is_cached("large")
    say("read", seconds(read))


driver, folder, counts, length, chunk = sys.argv[1:]
for index, count in enumerate(counts.split(",")):
    many(driver, os.path.join(folder, count), int(count), index == 0)
large(driver, os.path.join(folder, "large"), int(length), int(chunk))
