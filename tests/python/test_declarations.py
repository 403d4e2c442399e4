"""The package declares what the header declares: functions, structs, callbacks and constants."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import image_cache
from image_cache import records
from image_cache._library import ffi, lib

ROOT = Path(__file__).resolve().parents[2]
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "include/image_cache.h").read_text(), flags=re.DOTALL)
PACKAGE = ROOT / "python/src/image_cache"


def declared_functions() -> dict[str, str]:
    """The type of each function of the header, as C writes a pointer to it."""
    pattern = r"^((?:const )?(?:struct )?[a-z_0-9]+ \*?)\s*(image_cache_[a-z_0-9]+)\(([^;{]*)\);"
    found = re.findall(pattern, HEADER, flags=re.MULTILINE)
    return {name: f"{result}(*)({arguments})" for result, name, arguments in found}


class Declarations(unittest.TestCase):
    def test_every_function_has_the_type_of_the_header(self) -> None:
        contract = (ROOT / "tests/abi/functions.txt").read_text().splitlines()
        functions = declared_functions()
        self.assertEqual(set(functions), {line.partition("(")[0] for line in contract})
        self.assertEqual(set(functions), {name for name in dir(lib) if name.islower()})
        for name, declared in functions.items():
            with self.subTest(name):
                self.assertEqual(ffi.typeof(getattr(lib, name)), ffi.typeof(declared))

    def test_every_constant_has_the_value_of_the_header(self) -> None:
        constants = dict(re.findall(r"^#define (IMAGE_CACHE_\w+) \(?(-?\d+)\)?$", HEADER, flags=re.MULTILINE))
        self.assertGreater(len(constants), 30)
        self.assertEqual({name: str(getattr(lib, name)) for name in dir(lib) if name.isupper()}, constants)

    def test_every_struct_has_the_layout_of_the_abi(self) -> None:
        layout = (ROOT / "tests/abi/layout.c").read_text()
        fields = re.findall(r"^FIELD\((\w+), (\w+), (\d+), (\d+)\);", layout, flags=re.MULTILINE)
        sizes = re.findall(r"^PIN\(sizeof\((\w+)\) == (\d+)", layout, flags=re.MULTILINE)
        self.assertGreater(len(fields), 60)
        for struct, field, offset, size in fields:
            kind = dict(ffi.typeof(struct).fields)[field].type
            with self.subTest(f"{struct}.{field}"):
                self.assertEqual((ffi.offsetof(struct, field), ffi.sizeof(kind)), (int(offset), int(size)))
        for struct, size in sizes:
            self.assertEqual(ffi.sizeof(struct), int(size), struct)
        self.assertEqual(
            {struct for struct, *_ in fields}, set(re.findall(r"^\} (image_cache_\w+_t);", HEADER, flags=re.MULTILINE))
        )

    def test_every_callback_has_the_type_of_the_header(self) -> None:
        callbacks = re.findall(r"^typedef (\w+) \(\*(image_cache_\w+_fn)\)\(([^;]*)\);", HEADER, flags=re.MULTILINE)
        self.assertEqual(len(callbacks), 7)
        for result, name, arguments in callbacks:
            self.assertEqual(ffi.typeof(name), ffi.typeof(f"{result}(*)({arguments})"), name)

    def test_every_field_of_a_result_is_in_its_record(self) -> None:
        for struct, record in (
            ("image_cache_usage_t", records.Usage),
            ("image_cache_statistics_t", records.Statistics),
            ("image_cache_verify_result_t", records.Verified),
        ):
            self.assertEqual(tuple(name for name, _ in ffi.typeof(struct).fields), record._fields)
        entry = [name for name, _ in ffi.typeof("image_cache_entry_t").fields]
        image = [re.sub("_ns$", "", name) for name in records.Image.__dataclass_fields__]
        self.assertEqual(entry, image)

    def test_every_function_of_the_header_is_used(self) -> None:
        """Some names are put together: those of the options."""
        source = "\n".join(path.read_text() for path in PACKAGE.glob("*.py") if path.name != "_declarations.py")
        used = set(re.findall(r"lib\.(image_cache_\w+)", source))
        used |= {f"image_cache_options_set_{name}" for name in re.findall(r'"(\w+)"', source)}
        self.assertEqual(set(declared_functions()) - used, set())

    def test_the_generated_file_is_that_of_the_header(self) -> None:
        try:
            import pycparser  # type: ignore[import-untyped]  # noqa: F401
        except ImportError:
            self.skipTest("pycparser is not installed")
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory) / "declarations.py"
            subprocess.run([sys.executable, "-B", ROOT / "python/generate.py", output], check=True, capture_output=True)
            is_same = output.read_text() == (PACKAGE / "_declarations.py").read_text()
        self.assertTrue(is_same, "make python was not run after a change of the header")

    def test_the_version_is_that_of_the_crate(self) -> None:
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), flags=re.MULTILINE)
        assert version is not None
        self.assertEqual(image_cache.__version__, version[1])
