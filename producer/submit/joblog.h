// The joblog of submit: one line for each job that has ended (or, when nobody waits, was
// confirmed), for people and their spreadsheets, and for --resume.
// Shape:   tab-separated, after a header line:
//            Seq       number of the payload, from 1: the line of the input
//            Id        the job, 3f9a1c07-42; - if there is none
//            Queue
//            Start     when it was submitted, seconds since 1970
//            Runtime   seconds from there to its end (to its confirm, when nobody waits)
//            State     confirmed, done, dead, cancelled, expired, lost or rejected
//            Attempts  - if not known
//            Hash      XXH3 of the payload, 16 hex digits: so a resume knows another input
//            Error     of dead and rejected jobs; tabs and line ends have become spaces
//          A payload that was submitted again has a line for each time; the last one counts.
// Errors:  see AppendFile; bad_data: a line that is none of a joblog's, named by its number
// Owns:    the file
// Threads: one thread
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "producer/client/append_file.h"

namespace millrace::producer {

struct JoblogRow {
  uint64_t seq = 0;
  std::string id;
  std::string queue;
  WallMs start;
  Millis runtime{};
  std::string state;
  uint64_t attempts = 0;
  uint64_t hash = 0;
  std::string error;
};

std::string joblog_line(const JoblogRow& row);
uint64_t payload_hash(std::string_view payload);

class Joblog {
 public:
  static Result<Joblog> open(const std::string& path);
  // One write(2).
  Result<void> write(std::string_view lines) { return file_.write(lines); }

 private:
  explicit Joblog(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
};

// What the last line of a payload says, and whether all of them were for one queue.
struct JoblogEntry {
  uint64_t number = 0;  // of the payload
  BrokerId broker;
  bool failed = false;  // neither done nor confirmed
  JobId job;            // 0: none
  uint64_t hash = 0;
  bool has_ended = false;       // there is a job, and somebody waited for its end
  bool without_result = false;  // match_results() did not find its line
};
struct JoblogEntries {
  std::string queue;                 // of the first line
  std::vector<JoblogEntry> entries;  // by number, each once: no more of them than lines

  const JoblogEntry* find(uint64_t number) const;  // null: it has no line
  // The first of that number or a higher one.
  std::vector<JoblogEntry>::const_iterator from(uint64_t number) const;
};
// A file that is not there, or empty, has no entries.
Result<JoblogEntries> read_joblog(const std::string& path);

}  // namespace millrace::producer
