#!/usr/bin/env python3
"""run_tests.py DRIVER: runs the tests of the package on the driver sqlite or xattr. Exit code 77: a test was skipped."""

import faulthandler
import sys
import unittest
from pathlib import Path

import image_cache

import support

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("sqlite", "xattr"):
        sys.exit(__doc__)
    support.driver = image_cache.Driver[sys.argv[1].upper()]
    faulthandler.dump_traceback_later(380, exit=True)  # a deadlock ends as a failure, with the stacks of all threads
    print(f"libimage_cache {image_cache.version()}, {sys.argv[1]} driver, Python {sys.version.split()[0]}")
    tests = unittest.defaultTestLoader.discover(str(Path(__file__).parent))
    result = unittest.TextTestRunner(verbosity=2, warnings="error").run(tests)
    for test, why in result.skipped:
        print(f"SKIPPED: {test.id()}: {why}")
    sys.exit(1 if not result.wasSuccessful() or result.testsRun == 0 else 77 if result.skipped else 0)
