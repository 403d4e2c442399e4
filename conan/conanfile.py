"""A Conan 2 recipe: `conan create conan` builds the library with CMake and cargo, and tries it with test_package/."""

import os
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir


class ImageCache(ConanFile):
    name = "image_cache"
    license = "Apache-2.0"
    description = "A local cache of virtual-machine images: crash-safe, exact across processes, with a C ABI"
    topics = ("cache", "image", "glance", "qcow2")
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": True}
    package_type = "library"

    @property
    def _repository(self):
        return os.path.join(self.recipe_folder, os.pardir)

    def set_version(self):
        manifest = load(self, os.path.join(self._repository, "Cargo.toml"))
        self.version = re.search(r'^version = "(.+)"', manifest, re.MULTILINE).group(1)

    def export(self):
        # The recipe reads it again where it is exported.
        copy(self, "Cargo.toml", self._repository, os.path.join(self.export_folder, os.pardir))

    def export_sources(self):
        for pattern in ("src/*", "include/*", "cmake/*", "tools/*", "docs/*", "examples/*", "examples-c/*", "cachectl/*", "vendor/*",
                        ".cargo/*", "build.rs", "image_cache.map", "cbindgen.toml", "CMakeLists.txt", "Cargo.*", "LICENSE", "*.md"):
            copy(self, pattern, self._repository, self.export_sources_folder, excludes=("target/*", "build/*"))
        # cargo looks for the tests and benchmarks that Cargo.toml names, and builds none of them.
        for pattern in ("tests/*.rs", "tests/*/main.rs"):
            copy(self, pattern, self._repository, self.export_sources_folder)

    def configure(self):
        # The library is Rust: no C++ library has an influence on it.
        self.settings.rm_safe("compiler.libcxx")
        self.settings.rm_safe("compiler.cppstd")

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["IMAGE_CACHE_TESTS"] = False
        toolchain.cache_variables["IMAGE_CACHE_EXAMPLES"] = False
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        rmdir(self, os.path.join(self.package_folder, "share"))
        # One of the two libraries, as the option says.
        for name in os.listdir(os.path.join(self.package_folder, "lib")):
            if name.endswith(".a") if self.options.shared else ".so" in name:
                os.unlink(os.path.join(self.package_folder, "lib", name))
        # Conan writes these for both kinds.
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))

    def package_info(self):
        self.cpp_info.libs = ["image_cache"]
        self.cpp_info.set_property("cmake_target_name", "image_cache::image_cache")
        if not self.options.shared:
            self.cpp_info.system_libs = ["util", "rt", "pthread", "m", "dl"]
