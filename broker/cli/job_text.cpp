#include "broker/cli/job_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "broker/cli/text_table.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::json;

std::string due_in(const Json& job, int64_t now_ms) {
  if (job.at("due_ms").is_null()) return "-";
  return "in " + span(uint64_t(std::max<int64_t>(0, job.at("due_ms").get<int64_t>() - now_ms)));
}

std::string date(int64_t ms) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(ms / 1000)));
}

// That has the job, or had it last.
std::string worker_of(const Json& job) {
  if (job.contains("worker_id")) {
    const std::string name = text(job, "worker");
    return name.empty() ? "id " + text(job, "worker_id").substr(0, 8) : name;
  }
  return job.contains("last_failure") ? text(job.at("last_failure"), "worker") : "";
}

Row row_of(const Json& job, int64_t now_ms) {
  if (!job.contains("attempts"))  // it has ended; its key is known still
    return {text(job, "id"), text(job, "queue"), text(job, "state"), "", "", "-", "", ""};
  return {text(job, "id"),
          text(job, "queue"),
          text(job, "state"),
          count(job, "priority"),
          count(job, "attempts"),
          due_in(job, now_ms),
          worker_of(job),
          job.contains("last_failure") ? short_error(job.at("last_failure")) : ""};
}

}  // namespace

std::string short_error(const Json& failure) {
  std::string error = text(failure, "error");
  if (error.size() <= kMaxErrorShown) return error;
  size_t end = kMaxErrorShown;
  while ((error[end] & 0xc0) == 0x80) --end;  // not within a character
  return error.substr(0, end) + "...";
}

std::string listed_jobs_text(const Json& page) {
  const Json& jobs = page.at("jobs");
  if (jobs.empty()) return "no such jobs\n";
  std::vector<Row> rows{
      {"JOB", "QUEUE", "STATE", ">PRIORITY", ">ATTEMPTS", "DUE", "WORKER", "LAST ERROR"}};
  for (const Json& job : jobs) rows.push_back(row_of(job, page.at("now_ms").get<int64_t>()));
  const std::string more =
      page.at("next").is_null()
          ? ""
          : fmt::format("the first {}; there may be more (--limit)\n", grouped(jobs.size()));
  return table(std::move(rows)) + more;
}

std::string dead_text(const Json& page) {
  const Json& jobs = page.at("dead");
  if (jobs.empty()) return page.at("count") == 0 ? "no dead jobs\n" : "no such dead jobs\n";
  std::vector<Row> rows{
      {"SINCE", "JOB", "QUEUE", ">ATTEMPTS", ">FAILURES", ">CRASHES", "WORKER", "ERROR"}};
  for (const Json& job : jobs)
    rows.push_back({date(job.at("time_ms").get<int64_t>()), text(job, "id"), text(job, "queue"),
                    count(job, "attempts"), count(job, "failures"), count(job, "crashes"),
                    text(job, "worker"), short_error(job)});
  const bool all = page.at("next").is_null();
  return table(std::move(rows)) +
         (all ? ""
              : fmt::format("the newest {}; {} jobs are dead in all (--limit)\n",
                            grouped(jobs.size()), count(page, "count")));
}

std::string dead_groups_text(const Json& sums) {
  std::vector<Row> rows{{">JOBS", "NEWEST", "JOB", "ERROR"}};
  for (const Json& group : sums.at("groups"))
    rows.push_back({count(group, "jobs"), date(group.at("newest_ms").get<int64_t>()),
                    text(group, "newest"), short_error(group)});
  if (rows.size() == 1) return "no such dead jobs\n";
  const bool complete = sums.at("other") == 0;
  return table(std::move(rows)) +
         (complete ? "" : fmt::format("and {} jobs with other errors\n", count(sums, "other")));
}

}  // namespace millrace::admin
