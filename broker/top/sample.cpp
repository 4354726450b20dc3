#include "broker/top/sample.h"

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "common/base/terminal_text.h"

namespace millrace::top {
namespace {

using Json = nlohmann::json;

uint64_t number(const Json& object, const char* key) { return object.at(key).get<uint64_t>(); }

std::string text(const Json& object, const char* key) {
  return terminal_text(object.at(key).get<std::string>());
}

QueueSample read_queue(const Json& json) {
  QueueSample queue;
  queue.name = text(json, "name");
  queue.ready = number(json, "ready");
  queue.leased = number(json, "leased");
  queue.retry_wait = number(json, "retry_wait");
  queue.scheduled = number(json, "scheduled");
  queue.dead = number(json, "dead");
  queue.done = number(json, "done");
  queue.workers = number(json, "workers");
  queue.paused = json.at("settings").at("paused").get<bool>();
  return queue;
}

WorkerSample read_worker(const Json& json) {
  WorkerSample worker;
  worker.name = text(json, "name");
  worker.id = text(json, "id");
  if (worker.name.empty()) worker.name = "id " + worker.id.substr(0, 8);
  for (const Json& queue : json.at("queues"))
    worker.queues += (worker.queues.empty() ? "" : " ") + terminal_text(queue.get<std::string>());
  worker.threads = number(json, "threads");
  worker.credit = number(json, "credit");
  worker.in_flight = number(json, "in_flight");
  worker.done = number(json, "done");
  worker.failed = number(json, "failed");
  worker.connected = json.at("connected").get<bool>();
  worker.seconds_since_heard = json.at("seconds_since_heard").get<double>();
  return worker;
}

void read_journal(const Json& journal, Sample& sample) {
  sample.journal_bytes = number(journal, "bytes");
  sample.segments = number(journal, "segments");
  sample.disk_free = number(journal, "disk_free");
  sample.last_commit_us = number(journal, "last_commit_us");
  sample.commits = number(journal, "commits");
}

double rate(uint64_t before, uint64_t now, double seconds) {
  return now < before || seconds <= 0 ? 0 : double(now - before) / seconds;
}

}  // namespace

Sample read_sample(const Json& status, Mono at) {
  Sample sample;
  sample.at = at;
  sample.broker = text(status, "broker");
  sample.state = text(status, "state");
  sample.fsync = text(status, "fsync");
  sample.version = text(status, "version");
  sample.uptime_ms = number(status, "uptime_ms");
  const Json &jobs = status.at("jobs"), &totals = status.at("totals");
  sample.ready = number(jobs, "ready");
  sample.leased = number(jobs, "leased");
  sample.retry_wait = number(jobs, "retry_wait");
  sample.scheduled = number(jobs, "scheduled");
  sample.dead = number(jobs, "dead");
  sample.accepted = number(totals, "accepted");
  sample.done = number(totals, "done");
  sample.failures = number(totals, "failures") + number(totals, "crashes");
  sample.rejected = number(totals, "rejected");
  read_journal(status.at("journal"), sample);
  sample.rss = number(status.at("memory"), "rss");
  sample.connections = number(status.at("connections"), "open");
  sample.connection_limit = number(status.at("connections"), "limit");
  sample.producers = number(status, "producers");
  for (const Json& queue : status.at("queues")) sample.queues.push_back(read_queue(queue));
  sample.unlisted_queues = number(status.at("other_queues"), "queues");
  for (const Json& worker : status.at("workers")) sample.workers.push_back(read_worker(worker));
  for (const Json& alert : status.at("alerts"))
    sample.alerts.push_back({alert.at("critical").get<bool>(), text(alert, "subject"),
                             text(alert, "problem"), text(alert, "remedy")});
  return sample;
}

void set_rates(const Sample& before, Sample& now) {
  const double seconds = std::chrono::duration<double>(now.at - before.at).count();
  now.accepted_rate = rate(before.accepted, now.accepted, seconds);
  now.done_rate = rate(before.done, now.done, seconds);
  now.failure_rate = rate(before.failures, now.failures, seconds);
  now.rejected_rate = rate(before.rejected, now.rejected, seconds);
  now.commit_rate = rate(before.commits, now.commits, seconds);
  std::unordered_map<std::string, const QueueSample*> queues;
  for (const QueueSample& queue : before.queues) queues.emplace(queue.name, &queue);
  for (QueueSample& queue : now.queues) {
    const auto old = queues.find(queue.name);
    if (old == queues.end()) continue;
    queue.in = rate(old->second->seen(), queue.seen(), seconds);
    queue.out = rate(old->second->done, queue.done, seconds);
  }
  std::unordered_map<std::string, const WorkerSample*> workers;
  for (const WorkerSample& worker : before.workers) workers.emplace(worker.id, &worker);
  for (WorkerSample& worker : now.workers)
    if (const auto old = workers.find(worker.id); old != workers.end())
      worker.out = rate(old->second->done, worker.done, seconds);
}

}  // namespace millrace::top
