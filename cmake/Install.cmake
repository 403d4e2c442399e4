# `cmake --install`: the header, both libraries, and what CMake and pkg-config find them with. The installed tree can be
# moved: its files know each other by relative paths only.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(FILES "${image_cache_header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES "${library_folder}/${versioned_name}" "${library_folder}/${soname}" "${shared_library}" "${static_library}"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}")

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/image_cache")
set(generated "${CMAKE_CURRENT_BINARY_DIR}/package")
configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/image_cache-config.cmake.in" "${generated}/image_cache-config.cmake"
  INSTALL_DESTINATION "${package_folder}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
# Before 1.0 a new minor version may change the ABI.
write_basic_package_version_file("${generated}/image_cache-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${generated}/image_cache-config.cmake" "${generated}/image_cache-config-version.cmake"
        DESTINATION "${package_folder}")

set(pkg_config_folder "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH relative_prefix "${pkg_config_folder}" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH relative_include "${pkg_config_folder}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
string(REGEX REPLACE "/$" "" relative_prefix "${relative_prefix}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/image_cache.pc.in" "${generated}/image_cache.pc" @ONLY)
install(FILES "${generated}/image_cache.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
