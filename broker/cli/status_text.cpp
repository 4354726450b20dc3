#include "broker/cli/status_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "broker/cli/text_table.h"
#include "common/base/terminal_text.h"
#include "common/base/units.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::json;

std::string joined(const Json& names) {
  std::string list;
  for (const Json& name : names) list += (list.empty() ? "" : ", ") + name.get<std::string>();
  return terminal_text(list);
}

std::string worker_table(const Json& workers) {
  std::vector<Row> rows{{"WORKER", ">THREADS", ">CREDIT", ">IN-FLIGHT", ">DONE", ">FAILED",
                         ">HEARD", "QUEUES", "LABELS"}};
  for (const Json& worker : workers) {
    std::string heard = fmt::format("{:.1f} s ago", worker.at("seconds_since_heard").get<double>());
    if (!worker.at("connected").get<bool>()) heard = "awaited";
    rows.push_back({worker_name(worker), count(worker, "threads"), count(worker, "credit"),
                    count(worker, "in_flight"), count(worker, "done"), count(worker, "failed"),
                    heard, joined(worker.at("queues")), joined(worker.at("labels"))});
  }
  return table(std::move(rows));
}

// The states that not every broker has jobs in.
std::string others_line(const Json& jobs) {
  std::string line;
  for (const char* state : {"scheduled", "cancelled", "expired"})
    if (jobs.at(state).get<uint64_t>() > 0)
      line += fmt::format("  {} {}", count(jobs, state), state);
  return line.empty() ? "" : "       " + line + "\n";
}

// What a power cut can take; nothing where each commit is synced.
std::string loss_line(const Json& journal) {
  const Json& most = journal.at("loss_window_max_ms");
  if (!most.is_null() && most.get<uint64_t>() == 0) return "";
  return fmt::format("         a power cut now would lose the last {} ms; {}\n",
                     count(journal, "loss_window_ms"),
                     most.is_null() ? "there is no limit"
                                    : fmt::format("at most about {} ms", most.get<uint64_t>()));
}

std::string overview(const Json& status) {
  const Json &jobs = status.at("jobs"), &journal = status.at("journal");
  std::string out =
      fmt::format("broker   {}  {}  up {}  version {}  pid {}\n", text(status, "broker"),
                  text(status, "state"), span(status.at("uptime_ms").get<uint64_t>()),
                  text(status, "version"), status.at("pid").get<uint64_t>());
  out += jobs_text(jobs);
  std::string segments = count(journal, "segments");
  segments += segments == "1" ? " segment" : " segments";
  double commit_ms = static_cast<double>(journal.at("last_commit_us").get<uint64_t>()) / 1000;
  out += fmt::format("journal  fsync {} ({})  {} in {}  last commit {:.2f} ms  {} free{}\n",
                     text(status, "fsync"), text(status, "durability"), bytes(journal, "bytes"),
                     segments, commit_ms, bytes(journal, "disk_free"),
                     journal.at("stalled").get<bool>() ? "  STALLED: no space" : "");
  out += loss_line(journal);
  return out + fmt::format("memory   {}  producers {}\n", bytes(status.at("memory"), "rss"),
                           count(status, "producers"));
}

// A broker of an older release has none.
std::string alert_lines(const Json& status) {
  if (!status.contains("alerts")) return "";
  std::string lines;
  for (const Json& alert : status.at("alerts"))
    lines +=
        fmt::format("{} {}: {}: {}\n", alert.at("critical").get<bool>() ? "CRITICAL" : "warning ",
                    text(alert, "subject"), text(alert, "problem"), text(alert, "remedy"));
  return lines;
}

std::string date(int64_t ms) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(ms / 1000)));
}

std::string worker_of_lease(const Json& lease) {
  const std::string name = text(lease, "worker");
  return name.empty() ? "id " + text(lease, "worker_id").substr(0, 8) : name;
}

}  // namespace

std::string worker_name(const Json& worker) {
  std::string name = text(worker, "name");
  return name.empty() ? "id " + text(worker, "id").substr(0, 8) : name;
}

std::string jobs_text(const Json& jobs) {
  return fmt::format("jobs     {} ready  {} leased  {} retry-wait  {} done  {} dead\n",
                     count(jobs, "ready"), count(jobs, "leased"), count(jobs, "retry_wait"),
                     count(jobs, "done"), count(jobs, "dead")) +
         others_line(jobs);
}

std::string queue_table(const Json& queues) {
  std::vector<Row> rows{
      {"QUEUE", ">READY", ">LEASED", ">RETRY-WAIT", ">DEAD", ">DONE", ">WORKERS"}};
  for (const Json& queue : queues) {
    rows.push_back({text(queue, "name"), count(queue, "ready"), count(queue, "leased"),
                    count(queue, "retry_wait"), count(queue, "dead"), count(queue, "done"),
                    count(queue, "workers")});
  }
  return table(std::move(rows));
}

// Which queues are not in the table; a broker of an older release lists all.
std::string others_text(const Json& answer) {
  if (!answer.contains("other_queues") || answer.at("other_queues").at("queues") == 0) return "";
  const Json& others = answer.at("other_queues");
  return fmt::format("and {} more queues with {} ready, {} leased, {} retry-wait, {} dead\n",
                     count(others, "queues"), count(others, "ready"), count(others, "leased"),
                     count(others, "retry_wait"), count(others, "dead"));
}

std::string status_text(const Json& status) {
  std::string out = overview(status) + alert_lines(status);
  const Json &queues = status.at("queues"), &workers = status.at("workers");
  if (!queues.empty()) out += "\n" + queue_table(queues) + others_text(status);
  if (!workers.empty()) out += "\n" + worker_table(workers);
  return out;
}

// What a queue was told to do, as flags of `queue set`; nothing when all is as by default.
std::string settings_words(const Json& settings) {
  std::string words = settings.at("paused").get<bool>() ? " paused" : "";
  if (text(settings, "order") == "fair") words += " order=fair";
  auto add = [&](const char* key, const char* name, uint64_t by_default) {
    const auto value = settings.at(key).get<uint64_t>();
    if (value != by_default) words += fmt::format(" {}={}", name, value);
  };
  auto add_time = [&](const char* key, const char* name) {
    const auto value = settings.at(key).get<int64_t>();
    if (value != 0) words += fmt::format(" {}={}", name, format_duration(Millis(value)));
  };
  add("weight", "weight", 1);
  add("concurrency", "concurrency", 0);
  add("rate", "rate", 0);
  add("max_length", "max-length", 0);
  add("max_attempts", "max-attempts", 0);
  add_time("backoff_min_ms", "backoff-min");
  add_time("backoff_max_ms", "backoff-max");
  add_time("lease_ms", "lease");
  add_time("ttl_ms", "ttl");
  return words.empty() ? "-" : words.substr(1);
}

std::string queues_text(const Json& answer) {
  const Json& queues = answer.at("queues");
  if (queues.empty()) return "no queues yet: the first job creates one\n";
  std::vector<Row> rows{{"QUEUE", ">SCHEDULED", ">READY", ">LEASED", ">RETRY-WAIT", ">DEAD",
                         ">DONE", ">WORKERS", "SETTINGS"}};
  for (const Json& queue : queues)
    rows.push_back({text(queue, "name"), count(queue, "scheduled"), count(queue, "ready"),
                    count(queue, "leased"), count(queue, "retry_wait"), count(queue, "dead"),
                    count(queue, "done"), count(queue, "workers"),
                    settings_words(queue.at("settings"))});
  return table(std::move(rows)) + others_text(answer);
}

std::string job_text(const Json& job) {
  std::string out = why_text(job);
  auto line = [&](const char* name, const std::string& value) {
    out += fmt::format("{:<9} {}\n", name, value);
  };
  auto add_time = [&](const char* key, const char* name) {
    if (job.contains(key) && !job.at(key).is_null()) line(name, date(job.at(key).get<int64_t>()));
  };
  if (job.contains("queue")) {
    line("queue", text(job, "queue"));
    line("priority", count(job, "priority"));
    line("attempts", fmt::format("{}, {} failures, {} crashes", count(job, "attempts"),
                                 count(job, "failures"), count(job, "crashes")));
  }
  if (job.contains("producer")) line("producer", text(job, "producer"));
  if (job.contains("lease")) {
    const Json& lease = job.at("lease");
    line("lease", fmt::format("worker {}, ends {}", worker_of_lease(lease),
                              date(lease.at("ends_ms").get<int64_t>())));
  }
  add_time("due_ms", "due");
  add_time("expires_ms", "expires");
  add_time("ended_ms", "ended");
  if (job.contains("result")) line("result", text(job, "result"));
  if (job.contains("result_base64")) line("result", "in base64: " + text(job, "result_base64"));
  if (!job.contains("history") || job.at("history").empty()) return out;
  std::vector<Row> rows{{">ATTEMPT", "ENDED", "WORKER", "ERROR"}};
  for (const Json& failure : job.at("history"))
    rows.push_back({count(failure, "attempt"), date(failure.at("time_ms").get<int64_t>()),
                    text(failure, "worker"), text(failure, "error")});
  return out + "\n" + table(std::move(rows));
}

std::string why_text(const Json& job) {
  std::string state = text(job, "state");
  return fmt::format("{} is {}: {}\n", text(job, "id"),
                     state == "retry-wait" ? "in retry-wait" : state, text(job, "why"));
}

}  // namespace millrace::admin
