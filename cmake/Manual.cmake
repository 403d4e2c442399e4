# The manual pages, made from the header by tools/manual, for `cmake --install`. A program of the build machine, also when the
# library is cross-compiled.
set(manual_directory "${CMAKE_CURRENT_BINARY_DIR}/manual")
set(manual_source "${CMAKE_CURRENT_SOURCE_DIR}/tools/manual")
file(GLOB manual_sources CONFIGURE_DEPENDS "${manual_source}/src/*.rs")
add_custom_command(
  OUTPUT "${manual_directory}/reference.md"
  COMMAND "${CMAKE_COMMAND}" -E env --unset=CARGO_BUILD_TARGET "CARGO_TARGET_DIR=${manual_directory}/cargo"
          "${CARGO_EXECUTABLE}" run --quiet --locked --manifest-path "${manual_source}/Cargo.toml" --
          "${image_cache_header}" "${manual_directory}"
  DEPENDS "${image_cache_header}" ${manual_sources} "${manual_source}/Cargo.toml"
  COMMENT "manual pages"
  VERBATIM)
add_custom_target(image_cache_manual ALL DEPENDS "${manual_directory}/reference.md")
install(DIRECTORY "${manual_directory}/man3" DESTINATION "${CMAKE_INSTALL_MANDIR}")
