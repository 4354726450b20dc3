# Every library comes from the distribution's packages; scripts/setup.sh installs them.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zmq REQUIRED IMPORTED_TARGET libzmq>=4.3.4)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)

# millrace_allocator: malloc and new for a program with thousands of connections (docs/decisions/0003).
# The sanitizers bring their own.
add_library(millrace_allocator INTERFACE)
if(NOT CMAKE_CXX_FLAGS MATCHES "fsanitize")
  find_package(mimalloc 2 REQUIRED)
  target_link_libraries(millrace_allocator INTERFACE mimalloc)
endif()

# cppzmq, robin-map, CLI11, toml++, nlohmann-json and Boost.Beast are headers only and stand in the
# compiler's default search path. msgpack-c changed the name of its CMake package between
# versions, so its header is what we look for.
find_path(MSGPACK_INCLUDE_DIR msgpack.hpp REQUIRED)
add_library(msgpack INTERFACE)
target_include_directories(msgpack SYSTEM INTERFACE ${MSGPACK_INCLUDE_DIR})
target_compile_definitions(msgpack INTERFACE MSGPACK_NO_BOOST)

find_package(Catch2 3 QUIET)
if(NOT Catch2_FOUND)
  find_package(Catch2 2 REQUIRED)
endif()
