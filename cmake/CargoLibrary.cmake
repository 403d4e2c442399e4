# Builds the library through cargo and defines image_cache::shared, image_cache::static and image_cache::image_cache.
#
# Only cargo can compute what is out of date, so every build runs it. Without a change, that takes a fraction of a second,
# and the files keep their times, so nothing is linked again. lib/ of the build tree has the files to link and install,
# which come from cargo's output.

find_program(CARGO_EXECUTABLE cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
if(NOT CARGO_EXECUTABLE)
  message(FATAL_ERROR "cargo, which builds libimage_cache, was not found: install Rust, or set CARGO_EXECUTABLE")
endif()
find_program(RUSTC_EXECUTABLE rustc HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")

set(IMAGE_CACHE_CARGO_TARGET_DIR "${CMAKE_CURRENT_BINARY_DIR}/cargo"
    CACHE PATH "cargo's target directory; share it with other cargo commands to build dependencies once")

# build.rs has the only ABI number.
file(READ "${CMAKE_CURRENT_SOURCE_DIR}/build.rs" build_script)
if(NOT build_script MATCHES "\nconst ABI: u32 = ([0-9]+)")
  message(FATAL_ERROR "build.rs has no ABI number")
endif()
set(abi ${CMAKE_MATCH_1})
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/build.rs")

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(cargo_profile dev)
  set(cargo_directory debug)
else()
  set(cargo_profile release)
  set(cargo_directory release)
endif()
# Release files keep symbol names, but no debug information, which is ten times their size.
set(debug_information)
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  set(debug_information CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR debug_information)
  set(strip_static_library)
else()
  set(strip_static_library --strip-debug)
endif()
# For another machine, cargo builds in a subdirectory of that target, and compiles C as CMake does.
set(IMAGE_CACHE_CARGO_TARGET "" CACHE STRING "The target triple to build for, such as aarch64-unknown-linux-gnu; empty: the host")
if(IMAGE_CACHE_CARGO_TARGET)
  string(PREPEND cargo_directory "${IMAGE_CACHE_CARGO_TARGET}/")
  string(REPLACE "-" "_" triple "${IMAGE_CACHE_CARGO_TARGET}")
  string(TOUPPER "${triple}" upper_triple)
  set(cargo_target_environment "CC_${triple}=${CMAKE_C_COMPILER}" "AR_${triple}=${CMAKE_AR}"
                               "CARGO_TARGET_${upper_triple}_LINKER=${CMAKE_C_COMPILER}")
  set(cargo_target_option --target ${IMAGE_CACHE_CARGO_TARGET})
elseif(CMAKE_CROSSCOMPILING)
  message(FATAL_ERROR "to cross-compile libimage_cache, set the target: -DIMAGE_CACHE_CARGO_TARGET=TRIPLE")
endif()

# A release has no path of the build machine, so it is the same wherever it is built. Other builds keep the paths: debuggers find
# the sources by them. Flags in the variable RUSTFLAGS replace these.
option(IMAGE_CACHE_REMAP_PATHS "Leave the paths of the build machine out of a release build" ON)
set(cargo_config)
set(c_flags "$ENV{CFLAGS}")
if(IMAGE_CACHE_REMAP_PATHS AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  if(DEFINED ENV{CARGO_HOME})
    set(cargo_home "$ENV{CARGO_HOME}")
  else()
    set(cargo_home "$ENV{HOME}/.cargo")
  endif()
  # The last one that fits counts: the build tree can be below the source tree, and that below cargo's directory.
  set(remapped)
  foreach(pair "${cargo_home}=cargo" "${CMAKE_CURRENT_SOURCE_DIR}=image_cache" "${IMAGE_CACHE_CARGO_TARGET_DIR}=target")
    list(APPEND remapped "'--remap-path-prefix=${pair}'")
    if(NOT pair MATCHES " ") # variables with flags cannot quote
      string(APPEND c_flags " -ffile-prefix-map=${pair}")
    endif()
  endforeach()
  list(JOIN remapped "," remapped)
  set(cargo_config --config "target.'cfg(all())'.rustflags=[${remapped}]")
endif()

# SQLite must be machine code: Rust's linker cannot read the intermediate code of gcc's -flto.
if(c_flags MATCHES "-flto")
  string(APPEND c_flags " -fno-lto")
endif()
set(cargo_flags)
if(NOT c_flags STREQUAL "$ENV{CFLAGS}")
  string(STRIP "${c_flags}" c_flags)
  set(cargo_flags "CFLAGS=${c_flags}")
endif()

# Where SQLite comes from, and other features of the crate.
set(IMAGE_CACHE_FEATURES "" CACHE STRING "Features of the crate instead of the default ones, such as system-sqlite; empty: the default")
set(cargo_features)
if(IMAGE_CACHE_FEATURES)
  set(cargo_features --no-default-features --features "${IMAGE_CACHE_FEATURES}")
endif()
set(missing_library) # that programs link beside the static library
if(IMAGE_CACHE_FEATURES MATCHES "system-sqlite")
  set(missing_library sqlite3)
endif()

set(image_cache_header "${CMAKE_CURRENT_SOURCE_DIR}/include/image_cache.h")
set(cargo_output "${IMAGE_CACHE_CARGO_TARGET_DIR}/${cargo_directory}")
set(cargo_shared_library "${cargo_output}/libimage_cache.so")
set(cargo_static_library "${cargo_output}/libimage_cache.a")

add_custom_target(
  image_cache_cargo ALL
  # A default target triple of the user would move the output to a subdirectory.
  COMMAND "${CMAKE_COMMAND}" -E env --unset=CARGO_BUILD_TARGET "CARGO_TARGET_DIR=${IMAGE_CACHE_CARGO_TARGET_DIR}"
          ${debug_information} ${cargo_flags} ${cargo_target_environment}
          "${CARGO_EXECUTABLE}" build --locked --lib --profile ${cargo_profile} ${cargo_target_option} ${cargo_config} ${cargo_features}
          --manifest-path "${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml"
  BYPRODUCTS "${cargo_shared_library}" "${cargo_static_library}"
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  COMMENT "cargo build (${cargo_profile})"
  USES_TERMINAL VERBATIM)

# ---- The shared library: its versioned name, the soname that programs load, and the name that linkers find -------------

set(library_directory "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(soname libimage_cache.so.${abi})
# The version's first number is the ABI's, as cargo-c names the file.
set(versioned_name ${soname}.${PROJECT_VERSION_MINOR}.${PROJECT_VERSION_PATCH})
set(shared_library "${library_directory}/libimage_cache.so")
add_custom_command(
  OUTPUT "${library_directory}/${versioned_name}" "${library_directory}/${soname}" "${shared_library}"
  COMMAND "${CMAKE_COMMAND}" -E make_directory "${library_directory}"
  # Removed first, so that running programs keep the old file.
  COMMAND "${CMAKE_COMMAND}" -E rm -f "${library_directory}/${versioned_name}"
  COMMAND "${CMAKE_COMMAND}" -E copy "${cargo_shared_library}" "${library_directory}/${versioned_name}"
  COMMAND "${CMAKE_COMMAND}" -E create_symlink ${versioned_name} "${library_directory}/${soname}"
  COMMAND "${CMAKE_COMMAND}" -E create_symlink ${versioned_name} "${shared_library}"
  DEPENDS "${cargo_shared_library}"
  COMMENT "The shared library ${versioned_name}"
  VERBATIM)

# ---- The static library, in which only the header's symbols are global -------------------------------------------------

# This needs a linker that dissolves section groups. lld before 19 and gold do not.
function(find_linker_for_groups variable)
  set(tried)
  foreach(name "${CMAKE_LINKER}" ld.bfd ld ld.lld)
    find_program(candidate "${name}" NO_CACHE)
    if(candidate)
      execute_process(COMMAND "${candidate}" --help OUTPUT_VARIABLE help ERROR_QUIET)
      if(help MATCHES "--force-group-allocation")
        set(${variable} "${candidate}" PARENT_SCOPE)
        return()
      endif()
      list(APPEND tried "${candidate}")
    endif()
    unset(candidate)
  endforeach()
  message(FATAL_ERROR "the static library needs a linker that knows --force-group-allocation, such as GNU ld; tried: ${tried}")
endfunction()
find_linker_for_groups(linker_for_groups)

set(static_library "${library_directory}/libimage_cache.a")
add_custom_command(
  OUTPUT "${static_library}"
  COMMAND
    "${CMAKE_COMMAND}" "-DLINKER=${linker_for_groups}" "-DOBJCOPY=${CMAKE_OBJCOPY}" "-DREADELF=${CMAKE_READELF}"
    "-DAR=${CMAKE_AR}" "-DHEADER=${image_cache_header}" "-DARCHIVE=${cargo_static_library}" "-DOUTPUT=${static_library}"
    "-DSTRIP=${strip_static_library}" "-DMISSING=${missing_library}"
    -P "${CMAKE_CURRENT_LIST_DIR}/hide_private_symbols.cmake"
  DEPENDS "${cargo_static_library}" "${image_cache_header}" "${CMAKE_CURRENT_LIST_DIR}/hide_private_symbols.cmake"
  COMMENT "The static library, with only the header's functions global"
  VERBATIM)

add_custom_target(image_cache_libraries ALL DEPENDS "${shared_library}" "${static_library}")
add_dependencies(image_cache_libraries image_cache_cargo)

# The system libraries that a Rust static library needs, which it cannot record itself. SQLite needs no others.
function(query_native_libraries variable)
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/native_libraries.rs" "")
  execute_process(
    COMMAND "${RUSTC_EXECUTABLE}" ${cargo_target_option} --crate-type staticlib --print native-static-libs
            -o native_libraries.a native_libraries.rs
    WORKING_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  file(REMOVE "${CMAKE_CURRENT_BINARY_DIR}/native_libraries.rs" "${CMAKE_CURRENT_BINARY_DIR}/native_libraries.a")
  if(NOT result EQUAL 0 OR NOT output MATCHES "native-static-libs: ([^\n]*)")
    message(FATAL_ERROR "rustc prints no native libraries of a static library (${RUSTC_EXECUTABLE}): ${output}")
  endif()
  # gcc and clang add their own support library, which differs between shared and static programs.
  string(REPLACE "-lgcc_s" "" libraries "${CMAKE_MATCH_1}")
  string(REGEX REPLACE " +" " " libraries "${libraries}")
  string(STRIP "${libraries}" libraries)
  set(${variable} "${libraries}" PARENT_SCOPE)
endfunction()
query_native_libraries(native_libraries)
if(missing_library)
  string(PREPEND native_libraries "-l${missing_library} ")
endif()
string(REPLACE " " ";" native_library_list "${native_libraries}")

# ---- Targets to link ----------------------------------------------------------------------------------------------------

add_library(image_cache::shared SHARED IMPORTED GLOBAL)
set_target_properties(
  image_cache::shared PROPERTIES IMPORTED_LOCATION "${shared_library}" IMPORTED_SONAME ${soname}
                                 INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}/include")
add_library(image_cache::static STATIC IMPORTED GLOBAL)
set_target_properties(
  image_cache::static PROPERTIES IMPORTED_LOCATION "${static_library}"
                                 INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}/include"
                                 INTERFACE_LINK_LIBRARIES "${native_library_list}")

add_library(image_cache::image_cache INTERFACE IMPORTED GLOBAL)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  target_link_libraries(image_cache::image_cache INTERFACE image_cache::static)
else()
  target_link_libraries(image_cache::image_cache INTERFACE image_cache::shared)
endif()
add_dependencies(image_cache::shared image_cache_libraries)
add_dependencies(image_cache::static image_cache_libraries)
