"""Words of a scenario: escapes, data words, and fingerprints of data."""

from __future__ import annotations

import functools
import re

MAX_DATA = 64 << 20
MASK = 2**64 - 1
FNV_OFFSET, FNV_PRIME = 14695981039346656037, 1099511628211


class BadLine(Exception):
    """An invalid line."""


def unescape(word: bytes) -> bytes:
    if word == b"%":
        return b""
    if re.search(rb"%(?![0-9A-F]{2})", word):
        raise BadLine("a malformed escape")
    return re.sub(rb"%([0-9A-F]{2})", lambda escape: bytes.fromhex(escape[1].decode()), word)


def escape(text: bytes) -> str:
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in text)


def escape_text(text: str) -> str:
    return escape(text.encode("utf-8", "surrogateescape"))


def number(digits: bytes) -> int:
    if not re.fullmatch(rb"[0-9]+", digits) or int(digits) > MASK:
        raise BadLine("not a number")
    return int(digits)


def seconds(digits: bytes) -> int:
    return -number(digits[1:]) if digits.startswith(b"-") else number(digits)


def is_data(word: bytes) -> bool:
    return word.startswith((b"stars:", b"zeros:", b"text:", b"pattern:"))


@functools.lru_cache(maxsize=8)
def data(word: bytes) -> bytes:
    """The bytes of a data word."""
    kind, _, rest = word.partition(b":")
    if kind == b"text":
        return rest
    if kind == b"stars":
        return b"*" * _length(rest)
    if kind == b"zeros":
        return bytes(_length(rest))
    if kind == b"pattern" and b":" in rest:
        seed, _, length = rest.partition(b":")
        return _pattern(number(seed), _length(length))
    raise BadLine("no such data")


def _length(digits: bytes) -> int:
    length = number(digits)
    if length > MAX_DATA:
        raise BadLine("too much data")
    return length


def _pattern(state: int, length: int) -> bytes:
    """The top bytes of a 64-bit linear congruential generator (Knuth's MMIX)."""
    result = bytearray(length)
    for i in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        result[i] = state >> 56
    return bytes(result)


@functools.lru_cache(maxsize=8)
def fingerprint(content: bytes) -> str:
    """The length and the 64-bit FNV-1a hash. A run of zeros multiplies the hash only, so it takes no time."""
    hash_ = FNV_OFFSET
    for run in re.finditer(rb"\0+|[^\0]+", content):
        if content[run.start()] == 0:
            hash_ = hash_ * pow(FNV_PRIME, run.end() - run.start(), MASK + 1) & MASK
        else:
            for byte in run[0]:
                hash_ = (hash_ ^ byte) * FNV_PRIME & MASK
    return f"bytes:{len(content)}:{hash_:016x}"
