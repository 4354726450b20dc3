#include "producer/load/series.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace millrace::producer {
namespace {

std::optional<LoadRow::Quantiles> quantiles(const Histogram& us) {
  if (us.count() == 0) return std::nullopt;
  return LoadRow::Quantiles{double(us.quantile(0.5)) / 1000, double(us.quantile(0.99)) / 1000};
}

std::string text_of(const std::optional<LoadRow::Quantiles>& ms) {
  return ms ? fmt::format("{:.3f},{:.3f}", ms->p50_ms, ms->p99_ms) : ",";
}

}  // namespace

const char* const kLoadCsvHeader =
    "time_s,sent,confirmed,rejected,completed,failed,confirm_p50_ms,confirm_p99_ms,"
    "latency_p50_ms,latency_p99_ms,queue_depth\n";

void LoadInterval::add(const LoadInterval& other) {
  sent += other.sent;
  confirmed += other.confirmed;
  rejected += other.rejected;
  completed += other.completed;
  failed += other.failed;
  confirm_us.add(other.confirm_us);
  latency_us.add(other.latency_us);
}

std::string csv_line(const LoadRow& row) {
  return fmt::format("{:.3f},{},{},{},{},{},{},{},{}\n", row.time_s, row.sent, row.confirmed,
                     row.rejected, row.completed, row.failed, text_of(row.confirm),
                     text_of(row.latency), row.queue_depth ? std::to_string(*row.queue_depth) : "");
}

Result<LoadSeries> LoadSeries::open(const std::string& path, bool waits) {
  LoadSeries series;
  series.path_ = path;
  series.waits_ = waits;
  if (path.empty()) return series;
  series.file_.reset(std::fopen(path.c_str(), "we"));
  if (!series.file_) {
    return Error{ExitCode::cant_create,
                 fmt::format("can't create {}: {}; does its directory exist, may you write there?",
                             path, std::strerror(errno))};
  }
  if (auto written = series.write(kLoadCsvHeader); !written) return written.error();
  return series;
}

Result<void> LoadSeries::add(double time_s, const LoadInterval& interval) {
  LoadRow row;
  row.time_s = time_s;
  row.seconds = time_s - (rows_.empty() ? 0 : rows_.back().time_s);
  row.sent = interval.sent;
  row.confirmed = interval.confirmed;
  row.rejected = interval.rejected;
  row.completed = interval.completed;
  row.failed = interval.failed;
  row.confirm = quantiles(interval.confirm_us);
  row.latency = quantiles(interval.latency_us);
  confirmed_ += interval.confirmed;
  ended_ += interval.ended();
  // An end may be told before its confirm, by a moment.
  if (waits_) row.queue_depth = confirmed_ > ended_ ? confirmed_ - ended_ : 0;
  rows_.push_back(row);
  return write(csv_line(row));
}

Result<void> LoadSeries::write(const std::string& line) {
  if (!file_) return {};
  if (std::fputs(line.c_str(), file_.get()) >= 0 && std::fflush(file_.get()) == 0) return {};
  return Error{ExitCode::io, fmt::format("can't write {}: {}; is there space left?", path_,
                                         std::strerror(errno))};
}

}  // namespace millrace::producer
