#include "broker/offline/repair.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "broker/offline/rebuild.h"

namespace millrace::offline {
namespace {

namespace fs = std::filesystem;
using journal::Finding;

Error cant_create(std::string message) { return {ExitCode::cant_create, std::move(message)}; }

// TO itself may be there as long as it is empty.
Result<void> check_target(const fs::path& to, const fs::path& partial) {
  std::error_code error;
  if (fs::exists(to, error) && !(fs::is_directory(to, error) && fs::is_empty(to, error)))
    return cant_create(
        fmt::format("--to {} exists and is not an empty directory; give a new one", to.string()));
  if (fs::exists(partial, error))
    return cant_create(
        fmt::format("{} was left by a repair that did not finish: remove it, or give another --to",
                    partial.string()));
  return {};
}

// The header of the first segment that has one: whose journal it is.
Result<BrokerId> broker_of(journal::Directory& from) {
  auto files = list_journal(from);
  if (!files) return files.error();
  for (const auto& segment : files->segments) {
    const std::string name = journal::segment_name(segment.id);
    auto opened = from.open(name);
    if (opened.error) return file_error(from, name, "opened", opened.error);
    char bytes[journal::kSegmentHeaderBytes];
    size_t got = 0;
    if (opened.file->read(0, sizeof bytes, bytes, &got)) continue;
    auto header = journal::decode_segment_header({bytes, got});
    if (!header) continue;
    if (!journal::can_read(header->version))
      return Error{ExitCode::bad_data,
                   fmt::format("{}/{} has journal format version {}, and this program repairs "
                               "versions {} to {}: use the release that wrote it",
                               from.path(), name, header->version, journal::kOldestFormatVersion,
                               journal::kFormatVersion)};
    return header->broker;
  }
  return Error{ExitCode::bad_data,
               fmt::format("{}: no segment has a readable header, so the broker of this journal is "
                           "unknown; restore it from a copy",
                           from.path())};
}

Result<Survey> rebuild(journal::Directory& from, const std::string& partial, BrokerId broker,
                       const std::function<void(const SurveyProgress&)>& progress,
                       RelocatedJobs ahead = {}) {
  auto directory = journal::open_directory(partial);
  if (!directory) return directory.error();
  Rebuild target(*std::move(directory), broker);
  const bool is_first = ahead.empty();
  Result<void> written;
  auto surveyed = survey(
      from,
      [&](const Record& record, const core::State& before) {
        if (written) written = target.put(record, before);
      },
      progress, std::move(ahead));
  if (!surveyed || (is_first && !surveyed->unsaved.empty())) return surveyed;
  for (const Finding& finding : surveyed->findings)
    if (finding.kind == Finding::Kind::foreign_version)
      return Error{ExitCode::bad_data, finding.what + ": use the release that wrote it"};
  if (target.is_empty())
    return Error{ExitCode::bad_data, fmt::format("{}: no job and no checkpoint can be read, so "
                                                 "nothing can be recovered; restore it from a copy",
                                                 from.path())};
  if (written) written = target.finish();
  return written ? std::move(surveyed) : Result<Survey>(written.error());
}

// Its own name is as durable as what stands in it.
Result<void> give_name(const fs::path& partial, const fs::path& to) {
  std::error_code error;
  fs::rename(partial, to, error);
  if (error)
    return Error{ExitCode::io, fmt::format("{} can't be renamed to {}: {}", partial.string(),
                                           to.string(), error.message())};
  auto parent = journal::sync_directory_above(to.string());
  if (parent)
    return Error{ExitCode::io, fmt::format("the parent directory of {} can't be synced: {}",
                                           to.string(), parent.message())};
  return {};
}

}  // namespace

Result<Survey> repair(journal::Directory& from, const std::string& to,
                      const std::function<void(const SurveyProgress&)>& progress) {
  const fs::path target = fs::path(to).has_filename() ? fs::path(to) : fs::path(to).parent_path();
  const fs::path partial = target.string() + ".partial";
  if (auto checked = check_target(target, partial); !checked) return checked.error();
  auto broker = broker_of(from);
  if (!broker) return broker.error();
  std::error_code ignored;
  auto surveyed = rebuild(from, partial.string(), *broker, progress);
  if (surveyed && !surveyed->unsaved.empty()) {
    fs::remove_all(partial, ignored);
    surveyed = rebuild(from, partial.string(), *broker, progress, std::move(surveyed->unsaved));
  }
  if (surveyed) {
    if (auto named = give_name(partial, target); !named) return named.error();
    return surveyed;
  }
  fs::remove_all(partial, ignored);
  return surveyed;
}

}  // namespace millrace::offline
