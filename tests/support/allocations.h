// Counts what operator new has handed out, in a test program that links allocations.cpp.
// Shape:   bytes include what malloc adds to each allocation
// Threads: any; the counts are of all of them
#pragma once

#include <cstdint>

namespace millrace::test {

uint64_t allocated_bytes();

// The allocation after `others` more of them fails, once: a new handler is called if there is one,
// else it is std::bad_alloc.
void fail_allocation_after(uint64_t others);
// Each allocation of so many bytes or more fails, as where memory is short.
void fail_allocations_from(uint64_t bytes);
// None is to fail any more. Whether one did since fail_allocation_after().
bool stop_failing_allocations();

}  // namespace millrace::test
