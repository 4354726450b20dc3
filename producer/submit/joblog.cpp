#include "producer/submit/joblog.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "common/base/terminal_text.h"
#include "producer/client/line_file.h"

namespace millrace::producer {
namespace {

constexpr std::string_view kHeader =
    "Seq\tId\tQueue\tStart\tRuntime\tState\tAttempts\tHash\tError\n";
constexpr size_t kColumns = 9;
// Far above what anybody submits from one file.
constexpr uint64_t kMaxSeq = uint64_t{1} << 32;

constexpr std::array<std::string_view, 8> kStates{"confirmed", "done", "dead",     "cancelled",
                                                  "expired",   "lost", "rejected", "ended"};

template <typename Number>
bool parse(std::string_view text, Number* number, int base = 10) {
  auto end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, *number, base);
  return parsed.ec == std::errc{} && parsed.ptr == end;
}

using Columns = std::array<std::string_view, kColumns>;

bool split(std::string_view line, Columns* columns) {
  for (size_t i = 0; i < kColumns; ++i) {
    const size_t tab = line.find('\t');
    if ((tab == std::string_view::npos) != (i + 1 == kColumns)) return false;
    (*columns)[i] = line.substr(0, tab);
    if (tab != std::string_view::npos) line.remove_prefix(tab + 1);
  }
  return true;
}

// What is wrong with the line, or nothing.
std::string take(std::string_view line, JoblogEntries* all) {
  Columns columns;
  if (!split(line, &columns)) return fmt::format("not {} columns with tabs between", kColumns);
  uint64_t seq = 0;
  if (!parse(columns[0], &seq) || seq == 0 || seq > kMaxSeq) return "Seq is not a number";
  JoblogEntry entry;
  entry.number = seq;
  if (columns[1] != "-" && !parse_job_text(columns[1], &entry.broker, &entry.job))
    return "Id is not a job's";
  const auto state = columns[5];
  if (std::find(kStates.begin(), kStates.end(), state) == kStates.end()) return "no such State";
  entry.failed = state != "done" && state != "confirmed" && state != "ended";
  entry.has_ended = entry.job.value != 0 && state != "confirmed";
  if (columns[7].size() != 16 || !parse(columns[7], &entry.hash, 16)) return "Hash is none";
  if (all->queue.empty()) all->queue = columns[2];
  if (columns[2] != all->queue) return "its Queue is not that of the lines before";
  all->entries.push_back(entry);
  return "";
}

// Of the lines of one payload, the last one counts.
void sort_out(std::vector<JoblogEntry>* entries) {
  std::stable_sort(entries->begin(), entries->end(),
                   [](const auto& a, const auto& b) { return a.number < b.number; });
  auto last_of_each =
      std::unique(entries->rbegin(), entries->rend(),
                  [](const auto& a, const auto& b) { return a.number == b.number; });
  entries->erase(entries->begin(), last_of_each.base());
}

}  // namespace

std::string joblog_line(const JoblogRow& row) {
  std::string error = row.error;
  for (char& c : error)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return fmt::format(
      "{}\t{}\t{}\t{:.3f}\t{:.3f}\t{}\t{}\t{:016x}\t{}\n", row.seq, row.id, row.queue,
      double(to_int(row.start)) / 1000, double(row.runtime.count()) / 1000, row.state,
      row.attempts ? std::to_string(row.attempts) : "-", row.hash, terminal_text(error));
}

uint64_t payload_hash(std::string_view payload) {
  return XXH3_64bits(payload.data(), payload.size());
}

Result<Joblog> Joblog::open(const std::string& path) {
  auto file = AppendFile::open("joblog", path, kHeader);
  if (!file) return file.error();
  Joblog joblog(*std::move(file));
  if (!joblog.file_.empty()) return joblog;
  if (auto written = joblog.write(kHeader); !written) return written.error();
  return joblog;
}

std::vector<JoblogEntry>::const_iterator JoblogEntries::from(uint64_t number) const {
  return std::lower_bound(entries.begin(), entries.end(), number,
                          [](const JoblogEntry& entry, uint64_t n) { return entry.number < n; });
}

const JoblogEntry* JoblogEntries::find(uint64_t number) const {
  auto at = from(number);
  return at != entries.end() && at->number == number ? &*at : nullptr;
}

Result<JoblogEntries> read_joblog(const std::string& path) {
  JoblogEntries entries;
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return entries;
  auto file = LineFile::open(path, {"joblog", "is it one that submit wrote, unchanged?"});
  if (!file) return file.error();
  constexpr std::string_view header = kHeader.substr(0, kHeader.size() - 1);
  std::string_view line;
  for (;;) {
    auto more = file->next(&line);
    if (!more) return more.error();
    if (!*more) break;
    if (file->number() == 1 && line != header)
      return file->fault("not the header of a joblog of submit");
    if (file->number() == 1) continue;
    if (const std::string wrong = take(line, &entries); !wrong.empty()) return file->fault(wrong);
  }
  sort_out(&entries.entries);
  return entries;
}

}  // namespace millrace::producer
