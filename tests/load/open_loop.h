// An HTTP load that does not wait for answers: each request is due at its time, whatever became of
// those before, as from many users who do not know each other. What a slow server adds is counted.
// Shape:   Plan → run() → Outcome; request i is due at i / rate. Each takes an idle connection or a new
//          one, and has until `timeout` after it was due; then its connection is closed.
// Units:   microseconds after the due time in the histograms; seconds count from the start
// Limits:  a connection for each request under way: rate × timeout of them, as files of this process
// Errors:  io: no epoll, timer, or address. What happens to a request is an outcome, not an error
// Threads: one
// Source:  no packaged tool has an open loop, a time-out of each request and latency from the due
//          time: wrk and hey wait for answers, and latency then leaves out what was not sent
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/base/units.h"
#include "common/metrics/histogram.h"

namespace millrace::load {

struct Plan {
  Endpoint server;
  std::string target;  // of the POST
  std::string body;
  uint64_t rate = 1;  // a second
  uint64_t count = 0;
  Millis timeout{1000};
};

// Every request ends in one of these.
enum class End : uint8_t {
  answered,     // with 2xx
  refused,      // with another status
  timed_out,    // no whole answer in time
  unreachable,  // nobody took the connection
  cut           // the connection ended before the answer, or that was not HTTP
};

struct Second {
  uint64_t offered = 0;
  uint64_t answered = 0;
  uint64_t timed_out = 0;
};

struct Outcome {
  uint64_t offered = 0;
  uint64_t answered = 0;
  uint64_t refused = 0;
  uint64_t timed_out = 0;
  uint64_t unreachable = 0;
  uint64_t cut = 0;
  std::map<int, uint64_t> statuses;
  Histogram latency;            // of what was answered with 2xx
  Histogram lag;                // of this program: how late requests were begun
  uint64_t connections = 0;     // most at a time
  std::vector<Second> seconds;  // by the second in which a request was due
  double elapsed_seconds = 0;
};

Result<Outcome> run(const Plan& plan);

}  // namespace millrace::load
