#!/usr/bin/env python3
"""run_examples.py DRIVER: the Python examples print what the documents say."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def text_below(document: str, heading: str) -> str:
    """The first block of text below a heading of a document."""
    found = re.search(rf"^## {re.escape(heading)}\n.*?^```text\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)
    assert found is not None, f"{document} has no text block below '## {heading}'"
    return found[1]


def check(program: str, expected: str, in_log: tuple[str, ...] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="python-") as directory:
        command = [sys.executable, "-X", "dev", ROOT / "examples/python" / program, directory + "/cache", *sys.argv[1:]]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "image_cache.errors.Unsupported" in ran.stderr:
        print(f"SKIPPED: {ran.stderr.splitlines()[-1]}")
        sys.exit(77)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == expected, f"{program} prints\n{ran.stdout}\ninstead of\n{expected}\n{ran.stderr}"
    assert "ResourceWarning" not in ran.stderr, ran.stderr
    for text in in_log:
        assert text in ran.stderr, f"{program}: not in its log: {text}\n{ran.stderr}"
    print(f"{program}: passed")


check("agent.py", text_below("examples/README.md", "C++, Rust, Python, Node"))
check("callbacks.py", text_below("docs/languages.md", "Python"), ("WARNING: prefetching image 'missing' failed",))
