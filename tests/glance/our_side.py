"""This library in a process of its own. Python's sqlite3 and the library's SQLite must not open one file in one process.

    our_side.py LIBRARY DIRECTORY DRIVER MAX_SIZE

It reads one call a line, as JSON, and answers with one line.
"""

import ctypes
import json
import os
import subprocess
import sys
from ctypes import POINTER, byref, c_bool, c_size_t, c_uint64, c_void_p

from contents import content
from library import DRIVERS, Entry, Failure, Library, Log, source, value


class Cache:
    """The calls that the tests make."""

    def __init__(self, library, directory, driver, max_size=1 << 40, log=None):
        self.lib = Library(library)
        self.log = Log(lambda _, level, message: log(level, message.decode())) if log else None
        options = self.lib.options_new()
        self.lib.options_set_driver(options, DRIVERS[driver])
        self.lib.options_set_max_size(options, int(max_size))
        if self.log:
            self.lib.options_set_log(options, self.log, None)
        self.handle = value(c_void_p, self.lib.open, os.fsencode(directory), options)
        self.lib.options_free(options)

    def close(self):
        self.lib.close(self.handle)

    def entries(self, function, *fields):
        rows, entry = value(c_void_p, function, self.handle), POINTER(Entry)()
        found = []
        while self.lib.list_next(rows, byref(entry)):
            row = {name: getattr(entry.contents, name) for name in ("image_id", *fields)}
            found.append({name: item.decode() if isinstance(item, bytes) else item for name, item in row.items()})
        self.lib.list_free(rows)
        return found

    def list_cached(self):
        return self.entries(self.lib.list_cached, "size", "hits", "last_accessed", "last_modified", "digest")

    def list_queued(self):
        return [row["image_id"] for row in self.entries(self.lib.list_queued)]

    def list_incomplete(self):
        return [row["image_id"] for row in self.entries(self.lib.list_incomplete)]

    def list_invalid(self):
        return [row["image_id"] for row in self.entries(self.lib.list_invalid)]

    def cache_size(self):
        return value(c_uint64, self.lib.get_cache_size, self.handle)

    def hit_count(self, image_id):
        return value(c_uint64, self.lib.get_hit_count, self.handle, image_id.encode())

    def is_cached(self, image_id):
        return value(c_bool, self.lib.is_cached, self.handle, image_id.encode())

    def write(self, image_id, size):
        self.write_data(image_id, content(image_id, size).decode("latin-1"))

    def write_data(self, image_id, text):
        """Caches bytes, a letter for each."""
        writer = value(c_void_p, self.lib.begin_write, self.handle, image_id.encode())
        data = text.encode("latin-1")
        self.lib.write_chunk(writer, data, len(data))
        self.lib.commit(writer)

    def abort(self, image_id, size):
        writer = value(c_void_p, self.lib.begin_write, self.handle, image_id.encode())
        self.lib.write_chunk(writer, content(image_id, size), size)
        self.lib.abort(writer, b"the test aborts it")

    def leave_incomplete(self, image_id, size):
        """A writer that the end of this process kills."""
        writer = value(c_void_p, self.lib.begin_write, self.handle, image_id.encode())
        self.lib.write_chunk(writer, content(image_id, size), size)

    def read(self, image_id):
        """The image as text, a letter for each byte."""
        return self.read_bytes(image_id).decode("latin-1")

    def read_bytes(self, image_id):
        reader = value(c_void_p, self.lib.open_for_read, self.handle, image_id.encode())
        try:
            return self.rest(self.lib.read, reader)
        finally:
            self.lib.reader_close(reader)

    def tee(self, image_id, data):
        """Delivers the data, and caches them on the way."""
        position = 0

        def next_piece(capacity):
            nonlocal position
            piece = data[position : position + capacity]
            position += len(piece)
            return piece

        callback = source(next_piece)
        tee = value(c_void_p, self.lib.tee_open, self.handle, image_id.encode(), callback, None)
        try:
            return self.rest(self.lib.tee_read, tee)
        finally:
            self.lib.tee_close(tee)

    def rest(self, read, handle):
        buffer, length, data = ctypes.create_string_buffer(64 << 10), c_size_t(), bytearray()
        while True:
            read(handle, buffer, len(buffer), byref(length))
            if length.value == 0:
                return bytes(data)
            data += buffer.raw[: length.value]

    def queue(self, image_id):
        return value(c_bool, self.lib.queue_image, self.handle, image_id.encode())

    def delete(self, image_id):
        self.lib.delete_cached_image(self.handle, image_id.encode())

    def prune_to(self, size):
        images, freed = c_uint64(), c_uint64()
        self.lib.prune_to(self.handle, size, byref(images), byref(freed))
        return [images.value, freed.value]

    def clean(self, stall_time=-1):
        return value(c_uint64, self.lib.clean, self.handle, stall_time)

    def verify(self):
        """Compares each image with its digest, or stores one. Returns how many were verified, failed, unreadable, without one."""
        result = (c_uint64 * 6)()
        self.lib.verify(self.handle, None, None, 0, byref(result), ctypes.sizeof(result))
        return list(result)[:4]


class OurProcess:
    """A `Cache` in a process of its own: its calls by name. `log` is what the library logged of level warning and above."""

    def __init__(self, library, directory, driver, max_size=1 << 40):
        command = [sys.executable, __file__, library, str(directory), driver, str(max_size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.log = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "the process of the library ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def __getattr__(self, name):
        def call(*arguments):
            self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self.process.stdin.flush()
            return self.answer()

        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Closes the cache."""
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait() == 0
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()


def main():
    log = []
    library, directory, driver, max_size = sys.argv[1:]
    cache = Cache(library, directory, driver, max_size, lambda level, message: log.append(f"{level}: {message}"))
    print(json.dumps({"value": log}), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": getattr(cache, name)(*arguments)}
        except Failure as failure:
            answer = {"error": str(failure)}
        print(json.dumps(answer), flush=True)
    cache.close()


if __name__ == "__main__":
    main()
