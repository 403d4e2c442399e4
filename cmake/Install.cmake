# `cmake --install`: the header, both libraries, their packages for CMake and pkg-config, and the documents. The installed tree is
# relocatable: its files refer to each other by relative paths.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(FILES "${image_cache_header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/tools/manual/Cargo.toml") # the source package of the crate lacks it
  include("${CMAKE_CURRENT_LIST_DIR}/Manual.cmake")
endif()
install(FILES "${library_directory}/${versioned_name}" "${library_directory}/${soname}" "${shared_library}"
              "${static_library}"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}")

# In the layout of the repository, so that the links between documents and examples work.
foreach(document README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE)
  install(FILES "${CMAKE_CURRENT_SOURCE_DIR}/${document}" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endforeach()
foreach(directory docs examples-c examples python)
  install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${directory}" DESTINATION "${CMAKE_INSTALL_DOCDIR}"
          PATTERN CMakeLists.txt EXCLUDE PATTERN __pycache__ EXCLUDE PATTERN node_modules EXCLUDE)
endforeach()

# The Go module. Programs name its directory in their go.mod, and the Go example finds it by the link beside it.
set(go_directory "${CMAKE_INSTALL_DATADIR}/image_cache/go")
install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/go/" DESTINATION "${go_directory}")
file(RELATIVE_PATH relative_go "${CMAKE_INSTALL_FULL_DOCDIR}" "${CMAKE_INSTALL_FULL_DATADIR}/image_cache/go")
install(CODE "file(CREATE_LINK \"${relative_go}\" \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DOCDIR}/go\" SYMBOLIC)")

set(package_directory "${CMAKE_INSTALL_LIBDIR}/cmake/image_cache")
set(generated "${CMAKE_CURRENT_BINARY_DIR}/package")
configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/image_cache-config.cmake.in" "${generated}/image_cache-config.cmake"
  INSTALL_DESTINATION "${package_directory}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
# Before 1.0, a minor version may change the ABI.
write_basic_package_version_file("${generated}/image_cache-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${generated}/image_cache-config.cmake" "${generated}/image_cache-config-version.cmake"
        DESTINATION "${package_directory}")

set(pkg_config_directory "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH relative_prefix "${pkg_config_directory}" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH relative_include "${pkg_config_directory}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
string(REGEX REPLACE "/$" "" relative_prefix "${relative_prefix}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/image_cache.pc.in" "${generated}/image_cache.pc" @ONLY)
install(FILES "${generated}/image_cache.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
