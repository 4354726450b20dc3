#include "broker/offline/dump.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "broker/offline/record_json.h"
#include "broker/replay/replay.h"
#include "common/base/terminal_text.h"

namespace millrace::offline {
namespace {

using journal::Finding;
using Json = nlohmann::ordered_json;

class Dumper final : public records::RecordVisitor {
 public:
  Dumper(const DumpOptions& options, uint64_t total,
         const std::function<void(const SurveyProgress&)>& progress)
      : options_(options), show_(progress) {
    progress_.total = total;
  }

  std::vector<Finding> take_findings() { return std::move(findings_); }

 private:
  Result<void> on_segment(const journal::SegmentInfo& info,
                          const journal::SegmentHeader* header) override {
    before_ += segment_bytes_;
    segment_bytes_ = info.bytes;
    if (header && options_.broker && header->broker != *options_.broker)
      return Error{
          ExitCode::bad_data,
          fmt::format("this is the journal of broker {:08x}: it contains no jobs of broker {:08x}",
                      header->broker.value, options_.broker->value)};
    return {};
  }

  Result<void> on_batch(SegmentId, const journal::SegmentReader::Batch& batch) override {
    batch_ = batch.header;
    body_ = batch.body_offset;
    progress_.bytes = before_ + batch.body_offset + batch.body.size();
    ++progress_.batches;
    if (show_) show_(progress_);
    return {};
  }

  Result<void> on_record(const Record& record, size_t offset, journal::Place place) override {
    ++progress_.records;
    if (options_.job && !concerns(record, *options_.job)) return {};
    const Json fields = record_json(record, options_.payloads);
    const uint64_t at = body_ + offset;
    std::string line;
    if (options_.json) {
      Json json = {{"segment", place.segment.value},
                   {"offset", at},
                   {"batch", batch_.sequence.value},
                   {"record", name_of(record)}};
      json.update(fields);
      line = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    } else {
      line = fmt::format("{}:{} #{} {}", place.segment.value, at, batch_.sequence.value,
                         record_text(name_of(record), fields));
    }
    line = terminal_json(std::move(line)) + '\n';
    if (std::fwrite(line.data(), 1, line.size(), stdout) == line.size()) return {};
    return Error{ExitCode::io, "stdout can't be written to"};
  }

  Result<void> on_finding(const Finding& finding) override {
    findings_.push_back(finding);
    return {};
  }

  const DumpOptions& options_;
  const std::function<void(const SurveyProgress&)>& show_;
  SurveyProgress progress_;
  journal::BatchHeader batch_;
  uint64_t body_ = 0;
  uint64_t before_ = 0, segment_bytes_ = 0;
  std::vector<Finding> findings_;
};

}  // namespace

Result<std::vector<Finding>> dump(journal::Directory& directory, const DumpOptions& options,
                                  const std::function<void(const SurveyProgress&)>& progress) {
  auto files = list_journal(directory);
  if (!files) return files.error();
  if (options.from)
    std::erase_if(files->segments, [&](const auto& segment) { return segment.id < *options.from; });
  if (files->segments.empty())
    return Error{
        ExitCode::bad_data,
        fmt::format("{} has no segment {} or later; its file names show which segments exist",
                    directory.path(), options.from->value)};
  Dumper dumper(options, files->segment_bytes(), progress);
  if (auto walked = walk(directory, files->segments, dumper); !walked) return walked.error();
  if (std::fflush(stdout) != 0) return Error{ExitCode::io, "stdout can't be written to"};
  return dumper.take_findings();
}

}  // namespace millrace::offline
