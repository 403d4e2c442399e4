# Makes the static library from cargo's: one object, with what the header's functions need, in which every other symbol is
# private. So a program may have its own SQLite, and other libraries that are written in Rust.
# Given: LINKER OBJCOPY READELF AR HEADER ARCHIVE OUTPUT, and STRIP, an option of objcopy or nothing
file(READ "${HEADER}" header)
string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" header "${header}")
string(REGEX MATCHALL "[ *]image_cache_[a-z0-9_]+\\(" declared "${header}")
set(wanted)
set(visible)
foreach(name ${declared})
  string(REGEX REPLACE "[ *(]" "" name "${name}")
  list(APPEND wanted "--undefined=${name}")
  list(APPEND visible "--keep-global-symbol=${name}")
endforeach()
if(NOT visible)
  message(FATAL_ERROR "no functions found in ${HEADER}")
endif()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(GET ARGN 0 program)
    message(FATAL_ERROR "${program} failed: ${result}")
  endif()
endfunction()

get_filename_component(folder "${OUTPUT}" DIRECTORY)
file(MAKE_DIRECTORY "${folder}")
set(object "${folder}/image_cache.o")
file(REMOVE "${OUTPUT}")
# Section groups have public names: with another Rust library in the program, the linker would throw one group away that
# the private symbols of this one are in. Bitcode in Rust's standard library is of no use here, and confuses nm.
run("${LINKER}" -r --gc-sections --force-group-allocation ${wanted} -o "${object}" "${ARCHIVE}")

# What was left out leaves names behind that it alone needed, as undefined local symbols. objcopy would turn them into
# global ones, which the program would have to define: not all systems have them.
execute_process(COMMAND "${READELF}" --symbols --wide "${object}" RESULT_VARIABLE result OUTPUT_VARIABLE symbols)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${READELF} failed: ${result}")
endif()
string(REGEX MATCHALL " LOCAL +DEFAULT +UND +[^ \n]+" unused "${symbols}")
list(TRANSFORM unused REPLACE ".* " "--strip-symbol=")

run("${OBJCOPY}" --remove-section=.llvmbc --remove-section=.llvmcmd ${visible} ${unused} ${STRIP} "${object}")
# Nothing of SQLite is to come from elsewhere. (This kind of linking takes all that is missing for somebody else's.)
execute_process(COMMAND "${READELF}" --symbols --wide "${object}" RESULT_VARIABLE result OUTPUT_VARIABLE symbols)
if(NOT result EQUAL 0 OR symbols MATCHES " UND +(sqlite3_[^ \n]+|image_cache_[^ \n]+)")
  message(FATAL_ERROR "${ARCHIVE} has no ${CMAKE_MATCH_1}")
endif()
run("${AR}" qcs "${OUTPUT}" "${object}")
file(REMOVE "${object}")
