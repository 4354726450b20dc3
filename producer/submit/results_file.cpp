#include "producer/submit/results_file.h"

#include <charconv>
#include <filesystem>

#include "producer/client/line_file.h"

namespace millrace::producer {
namespace {

// Of a line: more than its job and number take. The result behind them may be large.
constexpr size_t kBeginning = 256;

bool skip(std::string_view* text, std::string_view expected) {
  if (!text->starts_with(expected)) return false;
  text->remove_prefix(expected.size());
  return true;
}

// As result_line() begins: {"id":"3f9a1c07-42","seq":7,"state":
bool parse_job(std::string_view line, uint64_t* number, BrokerId* broker, JobId* job) {
  if (!skip(&line, "{\"id\":\"")) return false;
  const std::string_view id = line.substr(0, line.find('"'));
  if (!parse_job_text(id, broker, job)) return false;
  line.remove_prefix(id.size());
  if (!skip(&line, "\",\"seq\":")) return false;
  return std::from_chars(line.data(), line.data() + line.size(), *number).ec == std::errc{};
}

}  // namespace

Result<void> match_results(const std::string& path, JoblogEntries* joblog) {
  std::error_code none;
  const auto type = std::filesystem::status(path, none).type();
  if (type != std::filesystem::file_type::regular && type != std::filesystem::file_type::not_found)
    return {};
  for (JoblogEntry& entry : joblog->entries) entry.without_result = entry.has_ended;
  if (type == std::filesystem::file_type::not_found) return {};
  LineFile::Form form{"results", ""};
  form.longest = kBeginning;
  form.cuts = true;
  auto file = LineFile::open(path, std::move(form));
  if (!file) return file.error();
  std::string_view line;
  for (;;) {
    auto more = file->next(&line);
    if (!more) return more.error();
    if (!*more) return {};
    uint64_t number = 0;
    BrokerId broker;
    JobId job;
    if (!file->is_cut() && !line.ends_with('}')) continue;
    if (!parse_job(line, &number, &broker, &job)) continue;
    const auto at = joblog->from(number) - joblog->entries.cbegin();
    if (size_t(at) == joblog->entries.size()) continue;
    JoblogEntry& entry = joblog->entries[size_t(at)];
    if (entry.number == number && entry.broker == broker && entry.job == job)
      entry.without_result = false;
  }
}

}  // namespace millrace::producer
