# The header compiles alone, and first in a file; a program in that language links with the library and runs.
# Given: COMPILER STANDARD LANGUAGE INCLUDE LIBRARY FOLDER
set(strict -std=${STANDARD} -Wall -Wextra -pedantic -Werror -I "${INCLUDE}")
get_filename_component(library_folder "${LIBRARY}" DIRECTORY)
file(MAKE_DIRECTORY "${FOLDER}")
file(WRITE "${FOLDER}/alone.c" "#include <image_cache.h>\n")

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message(STATUS "${what}: ${result}")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${output}")
  endif()
endfunction()

run("the header alone, as ${STANDARD}" "${COMPILER}" ${strict} -x ${LANGUAGE} -c "${FOLDER}/alone.c" -o
    "${FOLDER}/alone.o")
run("the header first, and linked" "${COMPILER}" ${strict} -x ${LANGUAGE} "${CMAKE_CURRENT_LIST_DIR}/header.c" -x none
    "${LIBRARY}" "-Wl,-rpath,${library_folder}" -o "${FOLDER}/header")
run("the program" "${FOLDER}/header")
file(REMOVE_RECURSE "${FOLDER}")
