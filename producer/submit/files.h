// The files that submit is given: each has to be one of its own, or what is written would mix with,
// or replace, what is read.
// Shape:   the same regular file under whatever name; of those that are not there, the same path
// Errors:  usage, naming both flags
// Threads: any
#pragma once

#include "common/base/result.h"
#include "producer/submit/submit.h"

namespace millrace::producer {

// Before any of them is opened for writing.
Result<void> check_files(const SubmitFlags& flags);

}  // namespace millrace::producer
