#include "broker/admin/alerts.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/grouped.h"

namespace millrace::admin {
namespace {

// Of a limit: from here on a warning, before anything is rejected.
constexpr double kNearLimit = 0.9;

std::string mebibytes(uint64_t bytes) { return grouped(bytes >> 20) + " MiB"; }

std::string jobs(uint64_t count) { return grouped(count) + (count == 1 ? " job" : " jobs"); }

void add_journal(const JournalStatus& journal, std::vector<Alert>& alerts) {
  if (journal.stalled) {
    alerts.push_back({true, "journal", "the disk is full, so nothing is confirmed",
                      "free space on the disk of --data; the broker continues by itself"});
  } else if (journal.rejecting) {
    alerts.push_back({true, "journal",
                      fmt::format("only {} of the disk are free, so new jobs are rejected",
                                  mebibytes(journal.disk_free)),
                      "free space on the disk of --data, or lower --disk-reserve"});
  }
}

void add_limit(std::string_view what, uint64_t used, uint64_t limit, std::string_view flag,
               std::vector<Alert>& alerts) {
  if (limit == 0 || double(used) < kNearLimit * double(limit)) return;
  const bool reached = used >= limit;
  alerts.push_back({reached, "limits",
                    fmt::format("{} {} {}{}", what, reached ? "reached" : "used 90 % of", flag,
                                reached ? ", so new jobs are rejected" : ""),
                    fmt::format("start more workers, or raise {}", flag)});
}

void add_limits(const Status& status, std::vector<Alert>& alerts) {
  const JobCounts& jobs = status.jobs;
  add_limit("unfinished jobs have", jobs.scheduled + jobs.ready + jobs.leased + jobs.retry_wait,
            status.limits.max_queued, "--max-queued", alerts);
  add_limit("unfinished and dead jobs have", status.memory.jobs, status.limits.max_memory,
            "--max-memory", alerts);
  const ConnectionStatus& connections = status.connections;
  if (connections.limit > 0 && double(connections.open) >= kNearLimit * double(connections.limit))
    alerts.push_back({connections.open >= connections.limit, "connections",
                      fmt::format("{} of {} connections are open", grouped(connections.open),
                                  grouped(connections.limit)),
                      "raise --max-connections, or find who opens them (the log names addresses)"});
}

Alert unserved(const QueueStatus& queue) {
  const std::string subject = "queue " + queue.name;
  if (queue.settings.paused)
    return {false, subject, fmt::format("paused, with {} ready", jobs(queue.ready)),
            "millrace-broker queue resume " + queue.name};
  return {true, subject, fmt::format("{} ready, no worker", jobs(queue.ready)),
          fmt::format("millrace-worker run --queue {}=HANDLER", queue.name)};
}

void add_queues(const Status& status, std::vector<Alert>& alerts) {
  uint64_t unlisted = 0;
  auto add = [&, listed = size_t{0}](Alert alert) mutable {
    if (++listed <= kMaxQueueAlerts) {
      alerts.push_back(std::move(alert));
    } else {
      ++unlisted;
    }
  };
  for (const QueueStatus& queue : status.queues)
    if (queue.ready > 0 && (queue.workers == 0 || queue.settings.paused)) add(unserved(queue));
  for (const QueueStatus& queue : status.queues)
    if (queue.dead > 0)
      add({false, "queue " + queue.name, jobs(queue.dead) + " dead",
           "look at them with 'millrace-broker dead', then retry or drop them"});
  if (unlisted > 0)
    alerts.push_back({false, "queues", fmt::format("{} more alerts about queues", unlisted),
                      "millrace-broker queue ls"});
}

void add_workers(const Status& status, std::vector<Alert>& alerts) {
  uint64_t leases = 0, missing = 0;
  for (const WorkerStatus& worker : status.workers) {
    if (worker.connected) continue;
    ++missing;
    leases += worker.in_flight;
  }
  if (missing > 0)
    alerts.push_back({false, "workers",
                      fmt::format("{} with {} in flight {} not connected", missing, jobs(leases),
                                  missing == 1 ? "is" : "are"),
                      "wait: their jobs are given to others after the grace period"});
}

}  // namespace

std::vector<Alert> alerts_of(const Status& status) {
  std::vector<Alert> alerts;
  add_journal(status.journal, alerts);
  add_limits(status, alerts);
  add_queues(status, alerts);
  add_workers(status, alerts);
  if (status.log_lines_dropped > 0)
    alerts.push_back({false, "log", grouped(status.log_lines_dropped) + " lines were dropped",
                      "whatever reads the broker's stderr is too slow"});
  std::stable_partition(alerts.begin(), alerts.end(), [](const Alert& a) { return a.critical; });
  return alerts;
}

}  // namespace millrace::admin
