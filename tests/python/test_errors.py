"""Statuses become exceptions. Arguments that C would cut off or wrap are refused."""

from __future__ import annotations

import errno
import os
import pickle

import image_cache
from image_cache import ImageCacheError, InvalidArgument, InvalidImageId
from image_cache._library import _check_version, error_of, ffi, lib
from image_cache.errors import BY_STATUS
from support import CacheTest


class Errors(CacheTest):
    def test_each_status_has_a_class_of_its_own(self) -> None:
        names = {name: getattr(lib, name) for name in dir(lib) if name.startswith("IMAGE_CACHE_ERROR_")}
        self.assertEqual(set(names.values()), set(BY_STATUS))
        for name, status in names.items():
            kind = BY_STATUS[status]
            self.assertEqual((f"IMAGE_CACHE_ERROR_{kind.name}", kind.status), (name, status))
            self.assertIn(kind.__name__, image_cache.__all__)
            self.assertTrue(issubclass(kind, ImageCacheError) and issubclass(kind, OSError))
            self.assertEqual(image_cache.status_name(status), name)

    def test_a_failure_has_its_status_errno_and_message(self) -> None:
        error = self.assert_fails(image_cache.IoFailed, image_cache.Cache, self.directory + "/absent/cache")
        assert isinstance(error, ImageCacheError)
        self.assertEqual(
            (error.status, error.name, error.os_error, error.errno), (-9, "IO", errno.ENOENT, errno.ENOENT)
        )
        self.assertIn("/absent", error.message)
        self.assertEqual((str(error), repr(error)), (error.message, f"IoFailed({error.message!r})"))
        self.assertIsNone(image_cache.NotFound("no errno").errno)

    def test_an_error_survives_pickling(self) -> None:
        for error in (image_cache.NoSpace("full", errno.ENOSPC), error_of(-99, 5, "unknown")):
            copy = pickle.loads(pickle.dumps(error))
            self.assertIs(type(copy), type(error))
            self.assertEqual((copy.status, copy.os_error, str(copy)), (error.status, error.os_error, str(error)))

    def test_a_status_of_a_newer_library_is_an_error(self) -> None:
        error = error_of(-99, 0, "new")
        self.assertIs(type(error), ImageCacheError)
        self.assertEqual((error.status, error.name), (-99, "UNKNOWN"))

    def test_a_nul_is_refused_and_not_the_end_of_the_text(self) -> None:
        self.cache_image("1", b"x")
        self.assert_fails(InvalidImageId, self.cache.is_cached, "1\0")
        self.assert_fails(InvalidArgument, self.cache.pin, "1", "guest\0")
        self.assert_fails(InvalidArgument, image_cache.Cache, self.path + "\0")
        self.assert_fails(InvalidArgument, lambda: self.open_cache(database="cache.db\0"))
        self.assert_fails(InvalidArgument, lambda: self.cache.begin_write("2", digests={"md5": "0" * 32 + "\0"}))
        self.assertFalse(self.cache.is_being_cached("2"))

    def test_a_number_that_does_not_fit_is_refused_and_not_wrapped(self) -> None:
        for number in (-1, 2**64):
            self.assert_fails(InvalidArgument, self.cache.prune_to, number)
            self.assert_fails(InvalidArgument, lambda: self.open_cache(max_size=number))
            self.assert_fails(InvalidArgument, lambda: self.cache.begin_write("1", size=number))
        self.assert_fails(InvalidArgument, lambda: self.open_cache(max_pinned=2**32 + 1))
        self.assert_fails(InvalidArgument, lambda: self.open_cache(driver=2**32))
        self.assert_fails(InvalidArgument, self.cache.clean, -(2**63) - 1)
        self.assertRaisesRegex(TypeError, "the size must be an integer, not float", self.cache.prune_to, 1.5)

    def test_wrong_types_and_options_are_type_errors(self) -> None:
        self.assertRaises(TypeError, self.cache.is_cached, 1)
        self.assertRaises(TypeError, self.cache.is_cached, None)
        with self.cache.begin_write("1") as writer:
            self.assertRaises(TypeError, writer.write, "text")
        with self.assertRaisesRegex(TypeError, "no option 'max_sise'"):
            self.open_cache(max_sise=1)

    def test_the_directory_can_be_bytes_or_a_path(self) -> None:
        path = os.path.join(os.fsencode(self.directory), b"\xff directory")
        with image_cache.Cache(path) as cache:
            self.assertEqual(cache.list_cached(), [])
        self.assertTrue(os.path.isdir(path))


class Loading(CacheTest):
    def test_a_missing_library_is_an_import_error_that_says_what_to_do(self) -> None:
        ran = self.run_program("import os; os.environ['IMAGE_CACHE_LIBRARY'] = '/absent/lib.so'; import image_cache")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("ImportError: cannot load libimage_cache: ", ran.stderr)
        self.assertIn("set IMAGE_CACHE_LIBRARY to the path of libimage_cache.so.0", ran.stderr)

    def test_a_library_without_a_function_is_an_import_error(self) -> None:
        ran = self.run_program("import os; os.environ['IMAGE_CACHE_LIBRARY'] = 'libc.so.6'; import image_cache")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("is an older version of libimage_cache than this package needs", ran.stderr)

    def test_an_older_library_is_an_import_error(self) -> None:
        """Its entries of lists have fewer fields than those that the package reads."""

        class Older:
            IMAGE_CACHE_VERSION_MAJOR, IMAGE_CACHE_VERSION_MINOR, IMAGE_CACHE_VERSION_PATCH = 1, 2, 3

            def __init__(self, number: int) -> None:
                self.image_cache_version_number = lambda: number
                self.image_cache_version = lambda: ffi.new("char[]", b"1.2.2")

        _check_version(Older(0x010203), "the library")
        _check_version(Older(0x010300), "the library")
        with self.assertRaisesRegex(ImportError, "the library has version 1.2.2, and this package needs 1.2.3"):
            _check_version(Older(0x010202), "the library")

    def test_versions_are_those_of_the_library(self) -> None:
        major, minor, patch = map(int, image_cache.version().split("."))
        self.assertEqual(image_cache.version_number(), major << 16 | minor << 8 | patch)
        self.assertEqual(image_cache.version(), image_cache.__version__)
