"""One scenario and its handles."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import image_cache
from words import BadLine

PASSED, FAILED, SKIPPED = 0, 1, 77  # also the exit codes of a scenario's process


class Skip(Exception):
    """The scenario cannot run here."""


@dataclass
class OpenCache:
    cache: image_cache.Cache
    log_messages: list[str]


@dataclass
class Open:
    """A tee or stream, and its source."""

    file: Any
    source: Any


@dataclass
class Scenario:
    path: Path
    driver_name: str
    driver: image_cache.Driver
    #: The scenario's own directory.
    root: str
    handles: dict[bytes, Any] = field(default_factory=dict)
    selected: Optional[OpenCache] = None
    fetches: dict[bytes, Any] = field(default_factory=dict)
    mismatches: int = 0
    skipped: Optional[str] = None

    @property
    def title(self) -> str:
        return f"{self.path.name.split('.scenario')[0]} ({self.driver_name})"

    @property
    def cache_directory(self) -> bytes:
        return os.path.join(os.fsencode(self.root), b"cache")

    @property
    def cache(self) -> image_cache.Cache:
        if self.selected is None:
            raise BadLine("no cache is selected")
        return self.selected.cache

    def inside(self, path: bytes) -> bytes:
        return self.cache_directory + b"/" + path

    def find(self, name: bytes, kind: type) -> Any:
        handle = self.handles.get(name)
        found = handle.file if isinstance(handle, Open) else handle
        if not isinstance(found, kind):
            raise BadLine("no handle of that kind and name is open")
        return handle

    def check_unused(self, name: bytes) -> None:
        if name in self.handles:
            raise BadLine("the name is in use")

    def close_everything(self) -> None:
        """Closes the handles that are still open. Caches come last."""
        caches = []
        for handle in self.handles.values():
            if isinstance(handle, OpenCache):
                caches.append(handle.cache)
            elif isinstance(handle, Open):
                handle.file.close()
            elif isinstance(handle, image_cache.Writer):
                handle.abort("the scenario ended")
            else:
                handle.close()
        for cache in caches:
            cache.close()
