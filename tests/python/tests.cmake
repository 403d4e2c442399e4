# The Python package, from its sources, on the library of this build. tests/consumers tests the installed wheel.

set(python_directory "${PROJECT_BINARY_DIR}/python")

# python_test(NAME SECONDS PACKAGES PROGRAM ARGUMENTS...): skipped where the packages are missing and pip cannot install them.
function(python_test name seconds packages)
  check_test(${name} ${seconds} "${source_root}/tests/python/run.sh" "${python_directory}" "${library}" "${packages}" ${ARGN})
endfunction()

foreach(driver ${drivers})
  python_test(python.package.${driver} 400 cffi -X dev "${source_root}/tests/python/run_tests.py" ${driver})
  python_test(python.examples.${driver} 120 cffi "${source_root}/tests/python/run_examples.py" ${driver})
  # Its own runner's transcripts are those of the C runner.
  check_test(
    python.scenarios.${driver} 400 "${source_root}/tests/scenarios/compare.sh" $<TARGET_FILE:scenario> ${driver}
    "${source_root}/tests/python/run.sh" "${python_directory}" "${library}" cffi
    "${source_root}/tests/scenarios/python/scenario.py")
endforeach()

check_test(python.types 300 "${source_root}/tests/python/types.sh" "${python_directory}")
