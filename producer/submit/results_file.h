// Which jobs of a joblog have their line in the file of results. A power cut may take the end of
// one file and leave the other, and somebody may have moved the results away.
// Shape:   each entry whose State is an end and that has no line of its job is marked without_result;
//          half a line at the end does not count, and what is no result line is passed over
// Errors:  bad_data: the file can't be read; one that is not there has no lines
// Threads: immutable
#pragma once

#include <string>

#include "common/base/result.h"
#include "producer/submit/joblog.h"

namespace millrace::producer {

// Anything but a regular file, such as a pipe, keeps nothing: then no entry is marked.
Result<void> match_results(const std::string& path, JoblogEntries* joblog);

}  // namespace millrace::producer
