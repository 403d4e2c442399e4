#!/usr/bin/env python3
"""agent.py LIBRARY CACHE_DIR: caches, reads, tees, lists and prunes, through the binding in image_cache.py."""

import ctypes
import io
import sys
from ctypes import POINTER, byref, c_size_t, c_uint64, c_void_p

from image_cache import Entry, Library, source, value

library_path, directory = sys.argv[1:]
lib = Library(library_path)


def read_all(read_some, handle):
    buffer, data = ctypes.create_string_buffer(4), b""
    while length := value(c_size_t, read_some, handle, buffer, len(buffer)):
        data += buffer.raw[:length]
    return data.decode()


options = lib.options_new()
lib.options_set_max_size(options, 15)
cache = value(c_void_p, lib.open, directory.encode(), options)
lib.options_free(options)

writer = value(c_void_p, lib.begin_write, cache, b"cirros")
try:
    lib.write_chunk(writer, b"0123456789", 10)
except BaseException:
    lib.abort(writer, b"the download failed")
    raise
lib.commit(writer)  # ends the writer, also when it raises
print("cached cirros: 10 bytes")

reader = value(c_void_p, lib.open_for_read, cache, b"cirros")
print("read cirros:", read_all(lib.read, reader))
lib.reader_close(reader)

from_store = source(io.BytesIO(b"teateatea").read)  # a reference, until the tee is closed
tee = value(c_void_p, lib.tee_open, cache, b"fedora", from_store, None)
lib.tee_refuse_empty(tee)
print(f"tee fedora: {read_all(lib.tee_read, tee)}, {'cached' if lib.tee_is_caching(tee) else 'not cached'}")
lib.tee_close(tee)

images, entry = value(c_void_p, lib.list_cached, cache), POINTER(Entry)()
while lib.list_next(images, byref(entry)):
    image = entry.contents
    print(f"listed {image.image_id.decode()}: {image.size} bytes, hits: {image.hits}")
lib.list_free(images)

count, size = c_uint64(), c_uint64()
lib.prune(cache, byref(count), byref(size))
print(f"pruned: {count.value} image, {size.value} bytes")
lib.close(cache)
