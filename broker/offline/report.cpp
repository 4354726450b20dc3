#include "broker/offline/report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "broker/offline/record_json.h"
#include "common/cli/progress.h"

namespace millrace::offline {
namespace {

using Json = nlohmann::ordered_json;
using journal::Finding;

constexpr size_t kFindingsShown = 20;  // in text; --json has them all

Json finding_json(const std::string& directory, const Finding& finding) {
  return {{"file", directory + "/" + journal::segment_name(finding.segment)},
          {"segment", finding.segment.value},
          {"offset", finding.offset},
          {"kind", journal::name_of(finding.kind)},
          {"what", finding.what},
          {"lost_bytes", finding.lost_bytes},
          {"lost_batches", finding.lost_batches}};
}

Json findings_json(const std::string& directory, const Survey& survey) {
  Json list = Json::array();
  for (const Finding& finding : survey.findings) list.push_back(finding_json(directory, finding));
  return list;
}

std::string remedy(const std::string& directory, const Survey& survey) {
  for (const Finding& finding : survey.findings)
    if (finding.kind == Finding::Kind::foreign_version) return "use the release that wrote it";
  return fmt::format(
      "restore the directory from a copy, or save what can be saved with 'millrace-broker journal "
      "repair {} --to NEWDIR'",
      directory);
}

std::string size_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = double(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) value /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string date(WallMs time) {
  if (time == WallMs{}) return "unknown";
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time_t(to_int(time) / 1000)));
}

std::string name_of_job(const Survey& survey, JobId job) {
  return survey.broker ? job_text(*survey.broker, job) : std::to_string(job.value);
}

std::string counted(uint64_t n, const char* what) {
  return fmt::format("{} {}{}", with_thousands(n), what, n == 1 ? "" : what[0] == 'b' ? "es" : "s");
}

std::string found_text(const Survey& survey) {
  return fmt::format("{}, {}, {}, {}", counted(survey.files.segments.size(), "segment"),
                     counted(survey.batches, "batch"), counted(survey.record_count(), "record"),
                     size_text(survey.used_bytes));
}

std::string findings_text(const Survey& survey) {
  std::string out;
  for (size_t i = 0; i < survey.findings.size() && i < kFindingsShown; ++i)
    out += fmt::format("  {}: {}\n", journal::name_of(survey.findings[i].kind),
                       survey.findings[i].what);
  if (survey.findings.size() > kFindingsShown)
    out += fmt::format("  and {} more: see --json\n", survey.findings.size() - kFindingsShown);
  return out;
}

std::string torn_text(const Survey& survey) {
  if (!survey.torn_tail) return "";
  return fmt::format("  {}; the next start drops it\n", survey.torn_tail->what);
}

Json jobs_json(const JobTotals& jobs) {
  return {{"accepted", jobs.accepted}, {"live", jobs.live()},   {"scheduled", jobs.scheduled},
          {"ready", jobs.ready},       {"leased", jobs.leased}, {"retry_wait", jobs.retry_wait},
          {"dead", jobs.dead},         {"done", jobs.done},     {"cancelled", jobs.cancelled},
          {"expired", jobs.expired}};
}

Json lost_json(const Survey& survey) {
  Json list = Json::array();
  for (const Lost& lost : survey.lost)
    list.push_back({{"first", name_of_job(survey, lost.jobs.first)},
                    {"first_job", lost.jobs.first.value},
                    {"count", lost.jobs.count},
                    {"exact", lost.is_exact}});
  return list;
}

// Those that are known by number, and how many more there may be at most.
std::pair<uint64_t, uint64_t> lost_jobs(const Survey& survey) {
  std::pair<uint64_t, uint64_t> sums{0, 0};
  for (const Lost& lost : survey.lost)
    (lost.is_exact ? sums.first : sums.second) += lost.jobs.count;
  return sums;
}

std::string lost_line(const Survey& survey, const Lost& lost) {
  const std::string first = name_of_job(survey, lost.jobs.first);
  const JobId last{lost.jobs.first.value + lost.jobs.count - 1};
  if (lost.jobs.count == 1 && lost.is_exact) return fmt::format("  lost: {}\n", first);
  return fmt::format("  {}: {} to {} ({})\n", lost.is_exact ? "lost" : "lost, at most", first,
                     name_of_job(survey, last), counted(lost.jobs.count, "job"));
}

Json base_json(const std::string& directory, const Survey& survey) {
  Json json = {{"directory", directory},
               {"ok", survey.is_whole()},
               {"segments", survey.files.segments.size()},
               {"batches", survey.batches},
               {"records", survey.record_count()},
               {"bytes", survey.used_bytes},
               {"torn_tail", nullptr},
               {"findings", findings_json(directory, survey)}};
  if (survey.torn_tail) json["torn_tail"] = finding_json(directory, *survey.torn_tail);
  return json;
}

}  // namespace

Json verify_json(const std::string& directory, const Survey& survey) {
  Json json = base_json(directory, survey);
  if (!survey.is_whole()) json["remedy"] = remedy(directory, survey);
  return json;
}

std::string verify_text(const std::string& directory, const Survey& survey) {
  if (survey.is_whole())
    return fmt::format("{}: OK: {}\n", directory, found_text(survey)) + torn_text(survey);
  return fmt::format("{}: DAMAGED; what can be read: {}\n", directory, found_text(survey)) +
         findings_text(survey) + torn_text(survey) +
         fmt::format("What to do: {}\n", remedy(directory, survey));
}

Json stat_json(const std::string& directory, const Survey& survey) {
  Json json = base_json(directory, survey);
  Json kinds = Json::object();
  for (size_t i = 0; i < survey.records.size(); ++i) kinds[name_of_type(i)] = survey.records[i];
  json["format_version"] = survey.version ? Json(*survey.version) : Json(nullptr);
  json["broker"] =
      survey.broker ? Json(fmt::format("{:08x}", survey.broker->value)) : Json(nullptr);
  json["incarnation"] = survey.incarnation;
  json["sealed"] = survey.sealed;
  json["file_bytes"] = survey.files.segment_bytes();
  json["spares"] = survey.files.spares.size();
  json["payload_bytes"] = survey.payload_bytes;
  json["records_by_kind"] = std::move(kinds);
  json["jobs"] = jobs_json(survey.jobs);
  json["oldest_live"] = nullptr;
  if (survey.oldest)
    json["oldest_live"] = {{"id", name_of_job(survey, survey.oldest->job)},
                           {"state", protocol::name_of(survey.oldest->state)},
                           {"accepted_ms", to_int(survey.oldest->accepted)}};
  json["first_ms"] = to_int(survey.first);
  json["last_ms"] = to_int(survey.last);
  return json;
}

std::string stat_text(const std::string& directory, const Survey& survey) {
  std::string out = fmt::format("{}: {}\n", directory, found_text(survey));
  auto line = [&](const char* name, const std::string& value) {
    out += fmt::format("{:<10} {}\n", name, value);
  };
  line("format",
       fmt::format("version {}, broker {:08x}, incarnation {}", survey.version.value_or(0),
                   survey.broker.value_or(BrokerId{}).value, survey.incarnation));
  line("files",
       fmt::format("{} in {} ({} sealed), {} spare", size_text(survey.files.segment_bytes()),
                   counted(survey.files.segments.size(), "segment"), survey.sealed,
                   survey.files.spares.size()));
  line("payloads", size_text(survey.payload_bytes));
  line("time", fmt::format("{} to {}", date(survey.first), date(survey.last)));
  const JobTotals& jobs = survey.jobs;
  line("jobs", fmt::format("{} live ({} scheduled, {} ready, {} leased, {} retry-wait), {} dead",
                           with_thousands(jobs.live()), with_thousands(jobs.scheduled),
                           with_thousands(jobs.ready), with_thousands(jobs.leased),
                           with_thousands(jobs.retry_wait), with_thousands(jobs.dead)));
  line("", fmt::format("{} accepted, {} done, {} cancelled, {} expired",
                       with_thousands(jobs.accepted), with_thousands(jobs.done),
                       with_thousands(jobs.cancelled), with_thousands(jobs.expired)));
  if (survey.oldest)
    line("oldest",
         fmt::format("{}, {}, accepted {}", name_of_job(survey, survey.oldest->job),
                     protocol::name_of(survey.oldest->state), date(survey.oldest->accepted)));
  std::string kinds;
  for (size_t i = 0; i < survey.records.size(); ++i)
    if (survey.records[i] > 0)
      kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", with_thousands(survey.records[i]),
                           name_of_type(i));
  line("records", kinds);
  if (!survey.is_whole()) out += "DAMAGED:\n" + findings_text(survey);
  return out + torn_text(survey);
}

Json repair_json(const std::string& from, const std::string& to, const Survey& survey) {
  Json json = base_json(from, survey);
  const auto [exact, at_most] = lost_jobs(survey);
  json["to"] = to;
  json["jobs"] = jobs_json(survey.jobs);
  json["lost_jobs"] = exact;
  json["lost_jobs_at_most"] = exact + at_most;
  json["lost"] = lost_json(survey);
  json["records_left_out"] = survey.left_out;
  return json;
}

std::string repair_text(const std::string& from, const std::string& to, const Survey& survey) {
  std::string out = fmt::format("wrote {}: {} live jobs, {} dead, {} done\n", to,
                                with_thousands(survey.jobs.live()),
                                with_thousands(survey.jobs.dead), with_thousands(survey.jobs.done));
  if (survey.is_whole())
    return out + fmt::format("  {} was not damaged; everything was copied\n", from);
  out += findings_text(survey);
  for (const Lost& lost : survey.lost) out += lost_line(survey, lost);
  if (survey.lost.empty()) out += "  no job is lost\n";
  if (survey.left_out > 0)
    out += fmt::format("  {} could not be applied and were left out\n",
                       counted(survey.left_out, "record"));
  return out +
         fmt::format("Start a broker with --data {}; keep {} until you have checked the result\n",
                     to, from);
}

}  // namespace millrace::offline
