# Makes the static library from cargo's: one object with the code that the header's functions need. Only those functions are
# global symbols, so a program may have its own SQLite, and other libraries written in Rust.
# Given: LINKER OBJCOPY READELF AR HEADER ARCHIVE OUTPUT; STRIP, an option of objcopy or nothing; MISSING, what programs link
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

get_filename_component(directory "${OUTPUT}" DIRECTORY)
file(MAKE_DIRECTORY "${directory}")
set(object "${directory}/image_cache.o")
file(REMOVE "${OUTPUT}")
# Section groups have global names. With another Rust library in the program, the linker would drop a group that holds
# private symbols of this one. The bitcode in Rust's standard library is not needed here, and nm cannot read it.
run("${LINKER}" -r --gc-sections --force-group-allocation ${wanted} -o "${object}" "${ARCHIVE}")

# Removed sections leave undefined local symbols that only they needed. objcopy would make these global, and the program
# would have to define them, which not every system can.
execute_process(COMMAND "${READELF}" --symbols --wide "${object}" RESULT_VARIABLE result OUTPUT_VARIABLE symbols)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${READELF} failed: ${result}")
endif()
string(REGEX MATCHALL " LOCAL +DEFAULT +UND +[^ \n]+" unused "${symbols}")
list(TRANSFORM unused REPLACE ".* " "--strip-symbol=")

run("${OBJCOPY}" --remove-section=.llvmbc --remove-section=.llvmcmd ${visible} ${unused} ${STRIP} "${object}")
# All of SQLite must be in the object, unless programs link the host's. A partial link (-r) reports no missing symbols, so this
# checks them.
execute_process(COMMAND "${READELF}" --symbols --wide "${object}" RESULT_VARIABLE result OUTPUT_VARIABLE symbols)
set(must_be_defined "sqlite3_[^ \n]+|image_cache_[^ \n]+")
if(MISSING STREQUAL "sqlite3")
  set(must_be_defined "image_cache_[^ \n]+")
endif()
if(NOT result EQUAL 0 OR symbols MATCHES " UND +(${must_be_defined})")
  message(FATAL_ERROR "${ARCHIVE} lacks ${CMAKE_MATCH_1}")
endif()
run("${AR}" qcs "${OUTPUT}" "${object}")
file(REMOVE "${object}")
