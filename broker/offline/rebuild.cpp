#include "broker/offline/rebuild.h"

#include <fmt/format.h>

namespace millrace::offline {
namespace {

constexpr uint64_t kBatchBytes = 4 << 20;
constexpr uint64_t kNoIncarnation = 0;  // no broker wrote this

}  // namespace

// Nothing is confirmed before the end, so one sync a segment will do.
Rebuild::Rebuild(std::unique_ptr<journal::Directory> directory, BrokerId broker,
                 uint64_t segment_bytes)
    : directory_(std::move(directory)),
      segment_bytes_(segment_bytes),
      writer_(*directory_, {}, broker, kNoIncarnation, journal::FsyncMode::never, segment_bytes) {}

Result<void> Rebuild::put(const records::Record& record, const core::State& before) {
  if (in_segment_ + kBatchBytes > segment_bytes_) {
    if (auto flushed = flush(); !flushed) return flushed;
    opens_segment_ = true;
    in_segment_ = 0;
  }
  if (opens_segment_ && chunk_.empty() && records_ > 0) {
    chunk_.append(before.checkpoint());
  }
  const size_t bytes = chunk_.bytes();
  chunk_.append(record);
  in_segment_ += chunk_.bytes() - bytes;
  ++records_;
  return chunk_.bytes() < kBatchBytes ? Result<void>() : flush();
}

Result<void> Rebuild::flush() {
  if (chunk_.empty()) return {};
  auto written = writer_.write({chunk_.parts(), chunk_.bytes(), chunk_.records()}, opens_segment_,
                               Now::read().wall);
  if (!written) return written.error();
  if (*written == journal::SegmentWriter::Outcome::shortage)
    return Error{ExitCode::io, fmt::format("{} can't be written to: {}", directory_->path(),
                                           writer_.shortage().message())};
  chunk_ = {};
  opens_segment_ = false;
  return {};
}

Result<void> Rebuild::finish() {
  if (auto flushed = flush(); !flushed) return flushed;
  auto sealed = writer_.seal();
  if (!sealed) return sealed.error();
  if (*sealed == journal::SegmentWriter::Outcome::shortage)
    return Error{ExitCode::io, fmt::format("{} can't be written to: {}", directory_->path(),
                                           writer_.shortage().message())};
  return {};
}

}  // namespace millrace::offline
