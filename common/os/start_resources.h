// Whether the limits of this process leave room for what it needs to start: libzmq aborts where it
// gets no thread or no memory, in the middle of a start and without saying which limit it was.
// Shape:   it starts so many threads, and reserves so many bytes of address space beside them, for a moment: so
//          every limit counts, whoever set it (RLIMIT_AS, RLIMIT_NPROC, pids.max of a control group)
// Errors:  78: limit, need and remedy
// Threads: before those that it asks for
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace millrace {

Result<void> check_start_resources(unsigned threads, uint64_t bytes);

}  // namespace millrace
