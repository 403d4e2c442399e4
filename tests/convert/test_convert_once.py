#!/usr/bin/env python3
"""Tests examples-c/convert_once: one conversion for all disks.

    test_convert_once.py PATH/convert_once sqlite|xattr

The test needs qemu-img.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

RAW = random.Random(3).randbytes(1 << 20) + bytes(6 << 20) + random.Random(4).randbytes(1 << 20)
CACHED = "disk.raw is cached"


class ConvertOnce(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="convert-", dir=".")
        self.addCleanup(shutil.rmtree, self.directory)
        self.image = self.path("image.qcow2")
        with open(self.path("image.raw"), "wb") as file:
            file.write(RAW)
        self.qemu_img("convert", "-O", "qcow2", "-c", self.path("image.raw"), self.image)

    def path(self, name):
        return os.path.join(self.directory, name)

    def qemu_img(self, *arguments):
        subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL)

    def start(self, disk):
        command = [PROGRAM, self.path("cache"), "disk", self.image, self.path(disk), DRIVER]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def convert(self, disk, code=0):
        process = self.start(disk)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, errors)
        return output + errors

    def assert_disks(self, *disks):
        for disk in disks:
            with open(self.path(disk), "rb") as file:
                self.assertTrue(file.read() == RAW, disk)
        left = set(os.listdir(self.directory)) - set(disks)
        self.assertEqual(left, {"cache", "image.qcow2", "image.raw"} & left)

    def test_a_second_disk_needs_no_conversion(self):
        self.assertIn(CACHED, self.convert("1"))
        os.unlink(self.image)
        self.assertNotIn(CACHED, self.convert("2"))
        self.assert_disks("1", "2")
        # A guest that writes to its disk changes no other one.
        with open(self.path("1"), "r+b") as file:
            file.write(b"a guest's")
        self.convert("3")
        os.unlink(self.path("1"))
        self.assert_disks("2", "3")

    def test_of_several_processes_one_converts(self):
        disks = ["1", "2", "3", "4"]
        processes = [self.start(disk) for disk in disks]
        outputs = [process.communicate(timeout=60) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * 4, outputs)
        self.assertEqual(sum(CACHED in output for output, _ in outputs), 1, outputs)
        self.assert_disks(*disks)

    def test_an_image_that_needs_another_file_is_refused(self):
        self.qemu_img("create", "-q", "-f", "qcow2", "-b", "image.raw", "-F", "raw", self.path("overlay.qcow2"))
        self.image = self.path("overlay.qcow2")
        self.assertIn("IMAGE_CACHE_ERROR_REFUSED", self.convert("1", code=1))
        self.assertFalse(os.path.exists(self.path("1")))

    def test_a_disk_that_exists_stays(self):
        with open(self.path("1"), "wb") as file:
            file.write(b"a guest's")
        self.assertIn("File exists", self.convert("1", code=1))
        with open(self.path("1"), "rb") as file:
            self.assertEqual(file.read(), b"a guest's")


if __name__ == "__main__":
    if shutil.which("qemu-img") is None:
        print("SKIPPED: qemu-img is not installed")
        sys.exit(77)
    PROGRAM, DRIVER = os.path.abspath(sys.argv[1]), sys.argv[2]
    unittest.main(argv=sys.argv[:1])
