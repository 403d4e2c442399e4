#!/usr/bin/env python3
"""Writes src/image_cache/_declarations.py: the header's declarations, in the form that cffi loads without a C compiler.

    generate.py [FILE]        FILE: where to write, instead of into the package

Run it after a change of include/image_cache.h. It needs cffi with pycparser. The tests compare its output with the package.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
HEADER = ROOT.parent / "include/image_cache.h"
OUTPUT = ROOT / "src/image_cache/_declarations.py"


def declarations(header: str) -> str:
    """The header without comments and without what only the C preprocessor uses."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"//.*", "", text)
    constants = re.findall(r"^#define (IMAGE_CACHE_\w+) \(?(-?\d+)\)?$", text, flags=re.MULTILINE)
    text = re.sub(r'^#.*$|^extern "C" \{$|^\}\s*$', "", text, flags=re.MULTILINE)
    return "".join(f"#define {name} {value}\n" for name, value in constants) + text


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    ffi = FFI()
    ffi.cdef(declarations(HEADER.read_text()))
    ffi.set_source("image_cache._declarations", None)
    ffi.emit_python_code(str(output))


if __name__ == "__main__":
    main()
