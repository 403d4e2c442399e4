"""One line of a scenario: its words, its operation, and the comparison of its result."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

import image_cache
import words
from state import OpenCache, Scenario, Skip
from words import BadLine

#: What a handle's letter stands for. The letter in upper case is the name for a new one.
KINDS: dict[str, type] = {
    "c": OpenCache,
    "w": image_cache.Writer,
    "r": image_cache.Reader,
    "e": image_cache.Tee,
    "m": image_cache.Stream,
}

#: A signature has a letter for each word, as in the C runner: t text, n number, s seconds, d data, p path, a handle's letter;
#: ? the words after it may be missing; * any number of further words; @ first: the operation needs a selected cache.
Operations = dict[str, tuple[str, Callable[..., str]]]


def run(scenario: Scenario, operations: Operations, number: int, line: bytes) -> None:
    written, arrow, expectation = line.partition(b" => ")
    print(f"{number} {written.decode()} => ", end="")
    detail = ""
    try:
        result, detail = _result(scenario, operations, written)
    except Skip as skip:
        scenario.skipped = str(skip)
        print("SKIPPED")
        return
    print(result)
    expected = _normalised(expectation) if arrow else "OK"
    is_expected = result == expected if arrow else result == "OK" or result.startswith("OK ")
    if result == "BAD_LINE" or not is_expected:
        scenario.mismatches += 1
        print(f"MISMATCH in line {number}: expected {expected}")
        print(f"{scenario.path}:{number}: expected {expected}, got {result}: {detail}", file=sys.stderr)


def _result(scenario: Scenario, operations: Operations, written: bytes) -> tuple[str, str]:
    """The operation's result, and a detail for the failure message."""
    try:
        name, *arguments = _split(written)
        if name.decode("ascii", "replace") not in operations:
            raise BadLine("no such operation")
        signature, operation = operations[name.decode()]
        return operation(scenario, *_parsed(scenario, signature, arguments)), ""
    except BadLine as error:
        return "BAD_LINE", str(error)
    except image_cache.ImageCacheError as error:
        return status_of(error), str(error)


def status_of(error: image_cache.ImageCacheError) -> str:
    is_filled = error.message != "" and image_cache.status_name(error.status).endswith(error.name)
    return error.name if is_filled else f"{error.name} ERROR_NOT_FILLED"


def system(operation: Callable[[], Any]) -> str:
    """The result of a system call of the scenario itself."""
    try:
        operation()
    except OSError as error:
        print(error, file=sys.stderr)
        return "FAILED"
    return "OK"


def _split(written: bytes) -> list[bytes]:
    parts = written.split(b" ")
    if b"" in parts:
        raise BadLine("words are separated by one space")
    return [words.unescape(part) for part in parts]


def _parsed(scenario: Scenario, signature: str, arguments: list[bytes]) -> list[Any]:
    if signature.startswith("@"):
        signature = signature[1:]
        _ = scenario.cache
    required = signature.partition("?")[0].rstrip("*")
    letters = signature.replace("?", "").rstrip("*")
    takes_more = signature.endswith("*")
    if len(arguments) < len(required) or len(arguments) > len(letters) and not takes_more:
        raise BadLine("too few or too many words")
    parsed = [_argument(scenario, letter, word) for letter, word in zip(letters, arguments)]
    return parsed + arguments[len(letters) :]


def _argument(scenario: Scenario, letter: str, word: bytes) -> Any:
    if letter == "d":
        return words.data(word)
    if b"\0" in word:
        raise BadLine("a NUL byte in a text")
    if letter == "n":
        return words.number(word)
    if letter == "s":
        return words.seconds(word)
    if letter == "p":
        return scenario.inside(word)
    if letter in KINDS:
        return scenario.find(word, KINDS[letter])
    if letter.lower() in KINDS:
        scenario.check_unused(word)
    return word


def _normalised(expectation: bytes) -> str:
    """Replaces data words by their fingerprints, as operations print them."""
    return " ".join(_fingerprint_of(word) for word in expectation.split(b" "))


def _fingerprint_of(word: bytes) -> str:
    try:
        plain = words.unescape(word)
        if words.is_data(plain):
            return words.fingerprint(words.data(plain))
    except BadLine:
        pass
    return os.fsdecode(word)
