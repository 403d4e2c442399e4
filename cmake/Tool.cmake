# image-cachectl, its manual pages and its completions. The library is linked into it, so it works without the installed one.
set(tool_source "${CMAKE_CURRENT_SOURCE_DIR}/cachectl")
if(NOT EXISTS "${tool_source}/Cargo.toml")
  message(FATAL_ERROR "IMAGE_CACHE_TOOLS needs the repository: the source package of the crate lacks cachectl/")
endif()
set(tool_directory "${CMAKE_CURRENT_BINARY_DIR}/tool")
set(tool_program "${cargo_output}/image-cachectl")
set(tool_options ${cargo_config} --locked --profile ${cargo_profile} --package image-cachectl
                 --manifest-path "${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml")
set(tool_environment "${CMAKE_COMMAND}" -E env --unset=CARGO_BUILD_TARGET
                     "CARGO_TARGET_DIR=${IMAGE_CACHE_CARGO_TARGET_DIR}" ${debug_information}
                     ${cargo_flags})

# The pages are made by the program, and by one of the build machine if the program is cross-compiled.
add_custom_target(
  image_cache_tool ALL
  COMMAND ${tool_environment} ${cargo_target_environment}
          "${CARGO_EXECUTABLE}" build ${tool_options} ${cargo_target_option}
  COMMAND ${tool_environment} "${CARGO_EXECUTABLE}" run --quiet ${tool_options} -- generate "${tool_directory}"
  BYPRODUCTS "${tool_program}"
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  COMMENT "image-cachectl (${cargo_profile})"
  USES_TERMINAL VERBATIM)
# Two runs of cargo at the same time would wait for each other.
add_dependencies(image_cache_tool image_cache_cargo)

if(IMAGE_CACHE_INSTALL)
  install(PROGRAMS "${tool_program}" DESTINATION "${CMAKE_INSTALL_BINDIR}")
  install(DIRECTORY "${tool_directory}/man1" DESTINATION "${CMAKE_INSTALL_MANDIR}")
  install(FILES "${tool_directory}/bash/image-cachectl.bash"
          DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" RENAME image-cachectl)
  install(FILES "${tool_directory}/zsh/_image-cachectl" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
  install(FILES "${tool_directory}/fish/image-cachectl.fish"
          DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
  include("${CMAKE_CURRENT_LIST_DIR}/Units.cmake")
endif()
