# millrace_library(name SOURCES ... LINKS ...): a static library with the project's warnings.
# millrace_program(name SOURCES ... LINKS ...): an executable likewise.
# millrace_test(name LABELS ... SOURCES ... LINKS ...): a Catch2 program, registered with CTest.
find_program(CCACHE ccache)
if(CCACHE)
  # A second checkout of the same sources finds what the first one compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
                                  CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

add_library(millrace_flags INTERFACE)
target_include_directories(millrace_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(millrace_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
                                                -Wno-missing-field-initializers)
# gcc 12 warns at -O3 of overlaps inside std::string that can't happen (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(millrace_flags INTERFACE -Wno-restrict)
endif()
if(MILLRACE_WERROR)
  target_compile_options(millrace_flags INTERFACE -Werror)
endif()
target_compile_definitions(millrace_flags INTERFACE MILLRACE_VERSION="${PROJECT_VERSION}")

function(millrace_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC millrace_flags ${ARG_LINKS})
endfunction()

function(millrace_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE millrace_flags ${ARG_LINKS})
endfunction()

# millrace_embed(source FILE ... HEADER ... NAMESPACE ... NAME ...): a source that defines NAME, which
# HEADER declares, as the text of a file.
function(millrace_embed source)
  cmake_parse_arguments(ARG "" "FILE;HEADER;NAMESPACE;NAME" "" ${ARGN})
  set(file ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_FILE})
  set(script ${PROJECT_SOURCE_DIR}/cmake/Embed.cmake)
  add_custom_command(
    OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DFILE=${file} -DSOURCE=${source} -DHEADER=${ARG_HEADER}
            -DNAMESPACE=${ARG_NAMESPACE} -DNAME=${ARG_NAME} -P ${script}
    DEPENDS ${file} ${script})
endfunction()

# A preset that tests a part only (the sanitizers) names its labels, and builds nothing else.
set(MILLRACE_TEST_LABELS "" CACHE STRING "Build only tests with one of these labels; empty: all")

function(millrace_test name)
  cmake_parse_arguments(ARG "" "" "LABELS;SOURCES;LINKS" ${ARGN})
  set(wanted ${MILLRACE_TEST_LABELS} ${ARG_LABELS})
  list(REMOVE_DUPLICATES wanted)
  list(LENGTH wanted apart)
  list(LENGTH MILLRACE_TEST_LABELS asked)
  list(LENGTH ARG_LABELS labels)
  math(EXPR together "${asked} + ${labels}")
  if(MILLRACE_TEST_LABELS AND apart EQUAL together)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE millrace_flags millrace_test_main ${ARG_LINKS})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
endfunction()
