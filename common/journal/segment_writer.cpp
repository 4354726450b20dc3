#include "common/journal/segment_writer.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::journal {
namespace {

// A sync into blocks that were written before is half as long as one into fresh ones. Small batches
// therefore write this much of zeros ahead of themselves now and then; for larger ones the zeros
// would cost more than they save.
constexpr uint64_t kZeroAhead = 1 << 20;
constexpr uint64_t kSmallBatch = 64 << 10;
constexpr size_t kMaxSpares = 2;
constexpr uint64_t kMaxSegment = UINT32_MAX;  // Place::offset

std::string spare_name(SegmentId segment) {
  return fmt::format("spare-{:016x}.mrj", segment.value);
}

}  // namespace

SegmentWriter::SegmentWriter(Directory& directory, Scan scan, BrokerId broker, uint64_t incarnation,
                             FsyncMode fsync, uint64_t segment_bytes)
    : directory_(directory),
      broker_(broker),
      incarnation_(incarnation),
      fsync_(fsync),
      segment_bytes_(round_to_block(segment_bytes)),
      segments_(std::move(scan.segments)),
      spares_(std::move(scan.spares)),
      next_(scan.next),
      durable_{scan.next.batch.value - 1},
      zeros_(kZeroAhead + kBlock, '\0') {
  MILLRACE_CHECK(!scan.tail);
  MILLRACE_CHECK(scan.recovered.broker.value_or(broker) == broker);
}

Error SegmentWriter::broken(std::string_view name, std::string_view what,
                            std::error_code error) const {
  Error told = file_error(directory_, name, what, error);
  const Terms& terms = directory_.terms();
  told.message +=
      error == std::errc::no_such_file_or_directory
          ? fmt::format(
                "; it was removed or moved while the {} was running; nothing more is {}: "
                "restore it from a copy, or choose another {} directory",
                terms.program, terms.confirmed, terms.option)
          : fmt::format(
                "; nothing more is {}, because the state of the disk is unknown: check the system "
                "log for disk errors, repair the disk, and start the {} again",
                terms.confirmed, terms.program);
  return told;
}

Result<SegmentWriter::Outcome> SegmentWriter::judge(std::error_code error, std::string_view name,
                                                    std::string_view what) {
  if (!error) return Outcome::done;
  if (!is_shortage(error)) return broken(name, what, error);
  shortage_ = error;
  return Outcome::shortage;
}

Result<SegmentWriter::Outcome> SegmentWriter::write(const Batch& batch, bool new_segment,
                                                    WallMs now) {
  bool begun = file_ && offset_ > kBlock;
  if (new_segment && begun) {
    auto sealed = seal();
    if (!sealed || *sealed == Outcome::shortage) return sealed;
  }
  if (!file_) {
    auto opened = open_segment(now);
    if (!opened || *opened == Outcome::shortage) return opened;
  }
  auto put = put_batch(batch, 0);
  if (!put || *put == Outcome::shortage || fsync_ != FsyncMode::always) return put;
  if (auto synced = sync(); !synced) return synced.error();
  return Outcome::done;
}

Result<void> SegmentWriter::sync() {
  if (!unsynced_) return {};
  if (auto error = file_->sync()) return broken(segment_name(segments_.back().id), "synced", error);
  unsynced_ = false;
  durable_ = {next_.batch.value - 1};
  return {};
}

Result<SegmentWriter::Outcome> SegmentWriter::seal() {
  if (!file_) return Outcome::done;
  // What the seal stands behind must be on disk before it, or it would prove damage.
  if (auto synced = sync(); !synced) return synced.error();
  auto put = put_batch({}, kSealed);
  if (!put || *put == Outcome::shortage) return put;
  if (auto synced = sync(); !synced) return synced.error();
  if (segments_.back().bytes - offset_ > segment_bytes_ / 4) {
    std::string name = segment_name(segments_.back().id);
    const auto error = file_->truncate(offset_);
    if (error && !is_shortage(error)) return broken(name, "shortened", error);
    if (!error) segments_.back().bytes = offset_;
  }
  file_.reset();
  return Outcome::done;
}

Result<SegmentWriter::Outcome> SegmentWriter::open_segment(WallMs now) {
  std::string name = segment_name(next_.segment);
  Directory::Opened opened;
  for (; !spares_.empty(); spares_.pop_back()) {
    opened = directory_.open(spares_.back().name);
    if (opened.error != std::errc::no_such_file_or_directory) break;  // someone needed the space
  }
  const bool recycled = !spares_.empty();
  std::string from = recycled ? spares_.back().name : name + ".tmp";
  if (!recycled) opened = directory_.create(from);
  if (opened.error) return judge(opened.error, from, "created");

  uint64_t bytes = recycled ? spares_.back().bytes : kBlock;
  // An optimization: without it the file grows with each batch.
  if (bytes < segment_bytes_ && !opened.file->allocate(segment_bytes_)) bytes = segment_bytes_;
  auto header = put_header(*opened.file, now);
  if (!header) return header;
  if (*header == Outcome::done) header = judge(directory_.rename(from, name), name, "created");
  // The next attempt replaces an incomplete file, or the next start removes it.
  if (!header || *header == Outcome::shortage) return header;
  if (auto error = directory_.sync()) return broken("", "synced", error);

  written_to_ = recycled ? spares_.back().bytes : kBlock;
  if (recycled) spares_.pop_back();
  file_ = std::move(opened.file);
  offset_ = kBlock;
  segments_.push_back({next_.segment, bytes});
  ++next_.segment.value;
  return Outcome::done;
}

Result<SegmentWriter::Outcome> SegmentWriter::put_header(File& file, WallMs now) {
  std::string name = segment_name(next_.segment);
  auto head =
      encode(SegmentHeader{kFormatVersion, broker_, next_.segment, next_.batch, next_.chain, now});
  std::string_view parts[] = {{head.data(), head.size()},
                              std::string_view(zeros_).substr(0, kBlock - head.size())};
  if (auto error = file.write(parts, 0)) return judge(error, name, "written");
  if (auto error = file.sync()) return broken(name, "synced", error);
  return Outcome::done;
}

uint64_t SegmentWriter::zeros_behind(uint64_t begin, uint64_t end) const {
  uint64_t padding = round_to_block(end) - end;
  uint64_t block_end = end + padding;
  if (end - begin > kSmallBatch || block_end <= written_to_ || block_end >= segment_bytes_)
    return padding;
  return padding + std::min(kZeroAhead, segment_bytes_ - block_end);
}

Result<SegmentWriter::Outcome> SegmentWriter::put_batch(const Batch& batch, uint32_t flags) {
  SegmentInfo& segment = segments_.back();
  BatchHeader header;
  header.segment = segment.id;
  header.sequence = next_.batch;
  header.incarnation = incarnation_;
  header.chain = next_.chain;
  header.body_bytes = uint32_t(batch.bytes);
  header.records = batch.records;
  header.flags = flags | (unsynced_ ? kBehindUnsynced : 0);
  auto head = encode(&header, batch.body);

  uint64_t end = offset_ + kBatchHeaderBytes + batch.bytes;
  MILLRACE_CHECK(round_to_block(end) <= kMaxSegment);
  uint64_t zeros = zeros_behind(offset_, end);
  parts_.clear();
  parts_.emplace_back(head.data(), head.size());
  parts_.insert(parts_.end(), batch.body.begin(), batch.body.end());
  parts_.emplace_back(zeros_.data(), zeros);
  auto error = file_->write(parts_, offset_);
  uint64_t padding = round_to_block(end) - end;
  if (is_no_space(error) && zeros > padding) {
    zeros = padding;
    parts_.back() = {zeros_.data(), zeros};
    error = file_->write(parts_, offset_);
  }
  if (error) return judge(error, segment_name(segment.id), "written");

  last_body_ = {segment.id, uint32_t(offset_ + kBatchHeaderBytes)};
  bytes_written_ += end + padding - offset_;
  offset_ = end + padding;
  written_to_ = std::max(written_to_, end + zeros);
  segment.bytes = std::max(segment.bytes, end + zeros);
  next_.chain = header.checksum;
  ++next_.batch.value;
  unsynced_ = true;
  return Outcome::done;
}

Result<std::optional<SegmentId>> SegmentWriter::retire_one(SegmentId last, Retired how) {
  if (segments_.empty() || segments_.front().id > last) return std::optional<SegmentId>();
  MILLRACE_CHECK(!file_ || segments_.size() > 1);
  SegmentInfo oldest = segments_.front();
  std::string name = segment_name(oldest.id);
  bool worth_keeping = oldest.bytes >= segment_bytes_ / 4 * 3 && oldest.bytes <= segment_bytes_ * 2;
  if (how == Retired::spare && worth_keeping && spares_.size() < kMaxSpares) {
    Spare spare{spare_name(oldest.id), oldest.bytes};
    const auto error = directory_.rename(name, spare.name);
    if (is_shortage(error)) return std::optional<SegmentId>();
    if (error) return broken(name, "renamed", error);
    spares_.push_back(std::move(spare));
  } else {
    const auto error = directory_.remove(name);
    if (is_shortage(error)) return std::optional<SegmentId>();
    if (error) return broken(name, "removed", error);
  }
  // Before the next one goes: a gap among the segments would look like a loss.
  if (auto error = directory_.sync()) return broken("", "synced", error);
  segments_.erase(segments_.begin());
  return std::optional(oldest.id);
}

Result<void> SegmentWriter::drop_spares() {
  for (; !spares_.empty(); spares_.pop_back()) {
    const std::string& name = spares_.back().name;
    const auto error = directory_.remove(name);
    if (is_shortage(error)) return {};
    const bool is_gone = error == std::errc::no_such_file_or_directory;  // someone needed the space
    if (error && !is_gone) return broken(name, "removed", error);
  }
  return {};
}

uint64_t SegmentWriter::bytes_on_disk() const {
  uint64_t bytes = 0;
  for (const SegmentInfo& segment : segments_) bytes += segment.bytes;
  for (const Spare& spare : spares_) bytes += spare.bytes;
  return bytes;
}

}  // namespace millrace::journal
