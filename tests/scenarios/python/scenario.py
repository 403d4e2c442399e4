#!/usr/bin/env python3
"""scenario.py DRIVER FILE...: runs scenario files over the Python package, on the driver sqlite or xattr, and prints their
transcripts. Exit code 1: one failed; 2: wrong usage. tests/scenarios/README.md describes the language.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import image_cache

import cache_operations
import disk
import file_operations
import line
import read_write
import sources
from state import PASSED, FAILED, SKIPPED, Scenario

OPERATIONS = {
    **cache_operations.OPERATIONS,
    **read_write.OPERATIONS,
    **sources.OPERATIONS,
    **file_operations.OPERATIONS,
    **disk.OPERATIONS,
}
DRIVERS = {"sqlite": image_cache.Driver.SQLITE, "xattr": image_cache.Driver.XATTR}
MAX_SECONDS = 300  # a scenario that runs longer has failed


def run_scenario(scenario: Scenario) -> int:
    """Runs in a child process: a crash or a hang fails one scenario, and its mounts end with it."""
    signal.alarm(MAX_SECONDS)
    print(f"scenario {scenario.title}")
    for number, text in enumerate(scenario.path.read_bytes().split(b"\n"), 1):
        if text and not text.startswith(b"#"):
            line.run(scenario, OPERATIONS, number, text)
        if scenario.skipped is not None:
            break
    scenario.close_everything()
    if scenario.mismatches:
        print(f"FAILED {scenario.title}\n")
        return FAILED
    if scenario.skipped is not None:
        print(f"SKIPPED {scenario.title}: {scenario.skipped}\n")
        return SKIPPED
    print(f"passed {scenario.title}\n")
    return PASSED


def run_in_process(path: Path, driver_name: str) -> int:
    root = tempfile.mkdtemp(prefix="scenario-")
    scenario = Scenario(path, driver_name, DRIVERS[driver_name], root)
    os.mkdir(scenario.cache_directory)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        outcome = FAILED
        try:
            outcome = run_scenario(scenario)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(outcome)
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(root, ignore_errors=True)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (PASSED, FAILED, SKIPPED):
        return os.WEXITSTATUS(status)
    print(f"FAILED {scenario.title}: its process ended with wait status {status}\n")
    return FAILED


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in DRIVERS:
        print("usage: scenario.py sqlite|xattr FILE...", file=sys.stderr)
        return 2
    outcomes = [run_in_process(Path(path), sys.argv[1]) for path in sys.argv[2:]]
    passed, failed, skipped = (outcomes.count(outcome) for outcome in (PASSED, FAILED, SKIPPED))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
