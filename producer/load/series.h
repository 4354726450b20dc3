// A load second by second: the rows of --csv, and of the picture.
// Shape:   time_s,sent,confirmed,rejected,completed,failed,confirm_p50_ms,confirm_p99_ms,
//          latency_p50_ms,latency_p99_ms,queue_depth
//          Counts and percentiles are of the second that ends at time_s, by when answer or end came;
//          empty where there was none. queue_depth is confirmed minus ended, at its end.
// Errors:  cant_create, io: the file
// Owns:    the file; rows go out as they are made
// Threads: one thread
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "producer/load/meter.h"

namespace millrace::producer {

struct LoadRow {
  struct Quantiles {
    double p50_ms;
    double p99_ms;
  };
  double time_s = 0;
  double seconds = 1;  // how long it is; the last row may be shorter
  uint64_t sent = 0, confirmed = 0, rejected = 0, completed = 0, failed = 0;
  std::optional<Quantiles> confirm, latency;
  std::optional<uint64_t> queue_depth;  // none where nobody waits for ends
};

extern const char* const kLoadCsvHeader;
std::string csv_line(const LoadRow& row);

class LoadSeries {
 public:
  // An empty path: no file. `waits` for the jobs' ends, or there is no depth to know.
  static Result<LoadSeries> open(const std::string& path, bool waits);

  // Ends a row at this time since the start.
  Result<void> add(double time_s, const LoadInterval& interval);
  const std::vector<LoadRow>& rows() const { return rows_; }

 private:
  struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  Result<void> write(const std::string& line);

  std::string path_;
  bool waits_ = true;
  std::unique_ptr<FILE, Close> file_;
  std::vector<LoadRow> rows_;
  uint64_t confirmed_ = 0, ended_ = 0;
};

}  // namespace millrace::producer
