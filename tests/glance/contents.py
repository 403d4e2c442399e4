"""The bytes of an image follow from its id, so that every process can check what it is served."""

import hashlib

PIECE = 64 << 10


def content(image_id, size):
    """`size` bytes that no other image has."""
    return hashlib.shake_128(image_id.encode()).digest(size)


def pieces(data):
    """The data as a store delivers it."""
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
