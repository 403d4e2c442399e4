# Builds the library through cargo and defines image_cache::shared, image_cache::static and image_cache::image_cache.
#
# Cargo alone knows when something has to be built again, so it is asked at every build; when nothing changed that costs
# a fraction of a second, and the files keep their times, so that nothing is linked anew.

find_program(CARGO_EXECUTABLE cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
if(NOT CARGO_EXECUTABLE)
  message(FATAL_ERROR "libimage_cache is built by cargo, which was not found: install Rust, or set CARGO_EXECUTABLE")
endif()
find_package(Threads REQUIRED)

set(IMAGE_CACHE_CARGO_TARGET_DIR "${CMAKE_CURRENT_BINARY_DIR}/cargo"
    CACHE PATH "Where cargo builds; share it with other cargo commands to build dependencies once")

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(cargo_profile dev)
  set(cargo_folder debug)
else()
  set(cargo_profile release)
  set(cargo_folder release)
endif()
set(cargo_output "${IMAGE_CACHE_CARGO_TARGET_DIR}/${cargo_folder}")
set(shared_library "${cargo_output}/${CMAKE_SHARED_LIBRARY_PREFIX}image_cache${CMAKE_SHARED_LIBRARY_SUFFIX}")
set(static_library "${cargo_output}/${CMAKE_STATIC_LIBRARY_PREFIX}image_cache${CMAKE_STATIC_LIBRARY_SUFFIX}")

add_custom_target(
  image_cache_cargo ALL
  # A default target triple of the user's would move the output to another folder.
  COMMAND "${CMAKE_COMMAND}" -E env --unset=CARGO_BUILD_TARGET "CARGO_TARGET_DIR=${IMAGE_CACHE_CARGO_TARGET_DIR}"
          "${CARGO_EXECUTABLE}" build --locked --lib --profile ${cargo_profile}
          --manifest-path "${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml"
  BYPRODUCTS "${shared_library}" "${static_library}"
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  COMMENT "cargo build (${cargo_profile})"
  USES_TERMINAL VERBATIM)

add_library(image_cache::shared SHARED IMPORTED GLOBAL)
set_target_properties(
  image_cache::shared PROPERTIES IMPORTED_LOCATION "${shared_library}" IMPORTED_NO_SONAME ON
                                 INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}/include")

# What Rust's standard library and SQLite ask of the system, which a static library cannot say itself.
add_library(image_cache::static STATIC IMPORTED GLOBAL)
set_target_properties(
  image_cache::static
  PROPERTIES IMPORTED_LOCATION "${static_library}"
             INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}/include"
             INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")

add_library(image_cache::image_cache INTERFACE IMPORTED GLOBAL)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  target_link_libraries(image_cache::image_cache INTERFACE image_cache::static)
else()
  target_link_libraries(image_cache::image_cache INTERFACE image_cache::shared)
endif()
add_dependencies(image_cache::shared image_cache_cargo)
add_dependencies(image_cache::static image_cache_cargo)
