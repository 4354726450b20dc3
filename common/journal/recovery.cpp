#include "common/journal/recovery.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::journal {
namespace {

// Replays what the walk shows, and refuses at the first finding that is more than a torn tail.
class Scanner final : public WalkVisitor {
 public:
  Scanner(Directory& directory, const Journal::Replay& replay)
      : directory_(directory), replay_(replay) {}

  Result<Scan> run() {
    if (auto listed = take_listing(); !listed) return listed.error();
    if (auto walked = walk(directory_, scan_.segments, *this); !walked) return walked.error();
    return std::move(scan_);
  }

  Result<Scan> run_end() {
    if (auto listed = take_listing(); !listed) return listed.error();
    is_silent_ = true;
    if (auto walked = walk(directory_, {scan_.segments.back()}, *this); !walked)
      return walked.error();
    return std::move(scan_);
  }

 private:
  Result<void> take_listing() {
    auto listed = list(directory_);
    if (!listed) return listed.error();
    scan_.segments = std::move(listed->segments);
    scan_.spares = std::move(listed->spares);
    scan_.unfinished = std::move(listed->unfinished);
    scan_.recovered.fresh = scan_.segments.empty();
    return {};
  }

  Error refuse(std::string what) const {
    return {ExitCode::bad_data,
            fmt::format("{}. Nothing has been changed. {}", what, how_to_salvage(directory_))};
  }

  Result<void> on_segment(const SegmentInfo&, const SegmentHeader* header) override {
    if (header) scan_.recovered.broker = header->broker;
    return {};
  }

  Result<void> on_batch(SegmentId, const SegmentReader::Batch& batch) override {
    scan_.recovered.batches += 1;
    scan_.recovered.records += batch.header.records;
    scan_.recovered.bytes += batch.body.size();
    return {};
  }

  Result<void> on_body(std::string_view body, Place* at) override {
    return is_silent_ ? Result<void>() : replay_(body, at);
  }

  Result<void> on_finding(const Finding& finding) override {
    switch (finding.kind) {
      case Finding::Kind::torn_tail:
        scan_.recovered.torn_tail = fmt::format("{}/{} at byte {}", directory_.path(),
                                                segment_name(finding.segment), finding.offset);
        return {};
      case Finding::Kind::unreadable:
        return Error{ExitCode::io, finding.what};
      case Finding::Kind::foreign_version:
        return Error{
            ExitCode::bad_data,
            fmt::format("{}: start the release that wrote it, or choose another {} directory",
                        finding.what, directory_.terms().option)};
      default:
        return refuse(finding.what);
    }
  }

  void on_segment_end(SegmentId segment, const SegmentReader& reader,
                      std::string_view bytes) override {
    scan_.next = {{segment.value + 1}, reader.next_sequence(), reader.chain()};
    if (segment != scan_.segments.back().id) return;
    if (reader.sealed()) {
      uint64_t seal = reader.end() - kBlock;
      scan_.seal = Seal{seal, std::string(bytes.substr(seal, kBlock))};
    } else {
      // The padding of the last batch may be beyond the file's end, and is part of the tail.
      std::string tail(bytes.substr(0, reader.end()));
      tail.resize(reader.end());
      scan_.tail = Tail{std::move(tail), reader.incarnation()};
    }
  }

  Directory& directory_;
  const Journal::Replay& replay_;
  bool is_silent_ = false;
  Scan scan_;
};

// Writes the tail and a seal into `file`, and syncs it.
std::error_code write_sealed(File& file, SegmentId segment, const Tail& tail, Position* next) {
  BatchHeader seal;
  seal.segment = segment;
  seal.sequence = next->batch;
  seal.incarnation = tail.incarnation;
  seal.chain = next->chain;
  seal.flags = kSealed;
  std::array<char, kBlock> block{};
  auto head = encode(&seal, {});
  std::copy(head.begin(), head.end(), block.begin());
  std::string_view parts[] = {tail.bytes, {block.data(), block.size()}};
  if (auto error = file.write(parts, 0)) return error;
  if (auto error = file.sync()) return error;
  next->batch.value += 1;
  next->chain = seal.checksum;
  return {};
}

std::error_code seal_tail(Directory& directory, Scan* scan) {
  SegmentInfo& info = scan->segments.back();
  std::string name = segment_name(info.id);
  auto copy = directory.create(name + ".tmp");
  if (copy.error) return copy.error;
  Position next = scan->next;
  if (auto error = write_sealed(*copy.file, info.id, *scan->tail, &next)) return error;
  if (auto error = directory.rename(name + ".tmp", name)) return error;
  if (auto error = directory.sync()) return error;
  scan->next = next;
  info.bytes = scan->tail->bytes.size() + kBlock;
  scan->tail.reset();
  return {};
}

// The same bytes again: torn or not, the block can't become worse.
std::error_code secure_seal(Directory& directory, const Scan& scan) {
  auto opened = directory.open(segment_name(scan.segments.back().id));
  if (opened.error) return opened.error;
  std::string_view parts[] = {scan.seal->block};
  if (auto error = opened.file->write(parts, scan.seal->offset)) return error;
  if (auto error = opened.file->sync()) return error;
  return directory.sync();
}

Result<void> remove(Directory& directory, const std::string& name) {
  if (auto error = directory.remove(name)) return file_error(directory, name, "removed", error);
  return {};
}

Result<void> remove_unfinished(Directory& directory, Scan* scan) {
  for (; !scan->unfinished.empty(); scan->unfinished.pop_back()) {
    if (auto removed = remove(directory, scan->unfinished.back()); !removed) return removed;
  }
  return {};
}

Result<void> remove_spares(Directory& directory, Scan* scan) {
  for (; !scan->spares.empty(); scan->spares.pop_back()) {
    if (auto removed = remove(directory, scan->spares.back().name); !removed) return removed;
  }
  return {};
}

}  // namespace

Result<Scan> scan(Directory& directory, const Journal::Replay& replay) {
  return Scanner(directory, replay).run();
}

std::optional<Scan> scan_end(Directory& directory, const Position& end, uint64_t least) {
  auto listed = list(directory);
  if (!listed || listed->segment_bytes() < least) return std::nullopt;
  auto found = Scanner(directory, {}).run_end();
  if (!found || found->recovered.torn_tail || !(found->next == end)) return std::nullopt;
  for (size_t i = 1; i < found->segments.size(); ++i)
    if (found->segments[i].id.value != found->segments[i - 1].id.value + 1) return std::nullopt;
  const auto broker = found->recovered.broker;
  found->recovered = {};
  found->recovered.broker = broker;
  found->recovered.resumed = true;
  return *std::move(found);
}

Result<void> finish(Directory& directory, Scan* scan) {
  if (auto removed = remove_unfinished(directory, scan); !removed) return removed;
  if (scan->segments.empty()) return {};
  std::string name = segment_name(scan->segments.back().id);
  if (scan->seal) {
    auto error = secure_seal(directory, *scan);
    return error ? file_error(directory, name, "sealed", error) : Result<void>();
  }
  auto error = seal_tail(directory, scan);
  if (is_no_space(error) && !scan->spares.empty()) {
    if (auto removed = remove_spares(directory, scan); !removed) return removed;
    error = seal_tail(directory, scan);
  }
  if (is_no_space(error)) {
    return Error{
        ExitCode::io,
        fmt::format("the disk of {} is full: free {} KiB, which the start needs to copy the "
                    "end of the journal",
                    directory.path(), scan->tail->bytes.size() / 1024 + kBlock / 1024)};
  }
  if (error) return file_error(directory, name, "copied", error);
  return {};
}

}  // namespace millrace::journal
