"""Builds a C program with the package, and runs it."""

import os
import tempfile

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout


class ImageCacheTest(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps", "CMakeToolchain"
    test_type = "explicit"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            with tempfile.TemporaryDirectory() as directory:
                program = os.path.join(self.cpp.build.bindir, "program")
                self.run(f'"{program}" "{directory}/cache"', env="conanrun")
