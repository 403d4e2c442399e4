# Compiles the header alone and as the first include of a program, links the program with the library, and runs it.
# Given: COMPILER STANDARD LANGUAGE INCLUDE LIBRARY DIRECTORY
set(strict -std=${STANDARD} -Wall -Wextra -pedantic -Werror -I "${INCLUDE}")
get_filename_component(library_directory "${LIBRARY}" DIRECTORY)
file(MAKE_DIRECTORY "${DIRECTORY}")
file(WRITE "${DIRECTORY}/alone.c" "#include <image_cache.h>\n")

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message(STATUS "${what}: ${result}")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${output}")
  endif()
endfunction()

run("the header alone, as ${STANDARD}" "${COMPILER}" ${strict} -x ${LANGUAGE} -c "${DIRECTORY}/alone.c" -o
    "${DIRECTORY}/alone.o")
run("the program that includes the header first" "${COMPILER}" ${strict} -x ${LANGUAGE} "${CMAKE_CURRENT_LIST_DIR}/header.c" -x none
    "${LIBRARY}" "-Wl,-rpath,${library_directory}" -o "${DIRECTORY}/header")
run("the run of the program" "${DIRECTORY}/header")
file(REMOVE_RECURSE "${DIRECTORY}")
