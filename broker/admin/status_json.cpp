#include "broker/admin/status_json.h"

#include <nlohmann/json.hpp>

#include "broker/admin/alerts.h"
#include "common/base/terminal_text.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const JobCounts& jobs) {
  return {{"scheduled", jobs.scheduled},   {"ready", jobs.ready},    {"leased", jobs.leased},
          {"retry_wait", jobs.retry_wait}, {"done", jobs.done},      {"dead", jobs.dead},
          {"cancelled", jobs.cancelled},   {"expired", jobs.expired}};
}

Json to_json(const Totals& totals) {
  return {{"accepted", totals.accepted}, {"done", totals.done},
          {"dead", totals.dead},         {"attempts", totals.attempts},
          {"crashes", totals.crashes},   {"failures", totals.failures},
          {"returned", totals.returned}, {"duplicates_known", totals.duplicates_known},
          {"stale", totals.stale},       {"rejected", totals.rejected}};
}

Json to_json(const QueueStatus& queue) { return queue_json(queue); }

Json to_json(const QueueSums& sums) {
  return {{"queues", sums.queues}, {"scheduled", sums.scheduled},   {"ready", sums.ready},
          {"leased", sums.leased}, {"retry_wait", sums.retry_wait}, {"dead", sums.dead},
          {"done", sums.done}};
}

Json to_json(const WorkerStatus& worker) {
  return {{"name", worker.name},           {"id", worker.id},
          {"queues", worker.queues},       {"labels", worker.labels},
          {"threads", worker.threads},     {"credit", worker.credit},
          {"in_flight", worker.in_flight}, {"done", worker.done},
          {"failed", worker.failed},       {"seconds_since_heard", worker.seconds_since_heard},
          {"connected", worker.connected}, {"subscriptions", worker.subscriptions}};
}

Json to_json(const JournalStatus& journal) {
  return {{"segments", journal.segments},
          {"bytes", journal.bytes},
          {"durable_batch", journal.durable_batch},
          {"commits", journal.commits},
          {"last_commit_us", journal.last_commit_us},
          {"disk_free", journal.disk_free},
          {"stalled", journal.stalled},
          {"rejecting", journal.rejecting},
          {"loss_window_ms", journal.loss_window_ms},
          {"loss_window_max_ms",
           journal.loss_window_max_ms ? Json(*journal.loss_window_max_ms) : Json(nullptr)}};
}

Json to_json(const ProducerShare& share) {
  return {{"id", share.id}, {"unfinished", share.unfinished}};
}

Json to_json(const Limits& limits) {
  return {{"max_queued", limits.max_queued},
          {"max_memory", limits.max_memory},
          {"max_queued_per_producer", limits.max_queued_per_producer},
          {"submit_rate_per_producer", limits.submit_rate_per_producer},
          {"max_queues", limits.max_queues}};
}

Json to_json(const ConnectionStatus& connections) {
  Json closed = Json::object();
  for (const auto& [reason, count] : connections.closed) closed[reason] = count;
  return {{"open", connections.open},
          {"limit", connections.limit},
          {"unread_bytes", connections.unread_bytes},
          {"closed", closed}};
}

Json to_json(const std::vector<HeldStatus>& held) {
  Json kinds = Json::object();
  for (const HeldStatus& one : held)
    kinds[one.kind] = Json::object({{"count", one.count}, {"bytes", one.bytes}});
  return kinds;
}

Json to_json(const Alert& alert) {
  return {{"critical", alert.critical},
          {"subject", alert.subject},
          {"problem", alert.problem},
          {"remedy", alert.remedy}};
}

template <typename T>
Json list(const std::vector<T>& items) {
  Json array = Json::array();
  for (const T& item : items) array.push_back(to_json(item));
  return array;
}

}  // namespace

Json settings_json(const records::QueueSettings& settings) {
  return {{"weight", settings.weight},
          {"order", settings.order == records::Order::fair ? "fair" : "fifo"},
          {"paused", settings.paused},
          {"concurrency", settings.concurrency},
          {"rate", settings.rate},
          {"max_length", settings.max_length},
          {"max_attempts", settings.max_attempts},
          {"backoff_min_ms", settings.backoff_min.count()},
          {"backoff_max_ms", settings.backoff_max.count()},
          {"lease_ms", settings.lease.count()},
          {"ttl_ms", settings.ttl.count()}};
}

Json queue_json(const QueueStatus& queue) {
  return {{"name", queue.name},
          {"ready", queue.ready},
          {"leased", queue.leased},
          {"retry_wait", queue.retry_wait},
          {"dead", queue.dead},
          {"done", queue.done},
          {"workers", queue.workers},
          {"scheduled", queue.scheduled},
          {"settings", settings_json(queue.settings)}};
}

Json status_json(const Status& status) {
  return {{"state", status.state},
          {"fsync", status.fsync},
          {"durability", status.durability},
          {"version", status.version},
          {"broker", status.broker},
          {"incarnation", status.incarnation},
          {"uptime_ms", status.uptime_ms},
          {"pid", status.pid},
          {"jobs", to_json(status.jobs)},
          {"totals", to_json(status.totals)},
          {"queues", list(status.queues)},
          {"queue_count", status.queues.size() + status.other_queues.queues},
          {"other_queues", to_json(status.other_queues)},
          {"workers", list(status.workers)},
          {"producers", status.producers},
          {"largest_producers", list(status.largest_producers)},
          {"unfinished_of_forgotten", status.unfinished_of_forgotten},
          {"limits", to_json(status.limits)},
          {"journal", to_json(status.journal)},
          {"memory",
           {{"rss", status.memory.rss},
            {"payload_bytes", status.memory.payload_bytes},
            {"jobs", status.memory.jobs},
            {"output", status.memory.output},
            {"transport", status.memory.transport},
            {"input", status.memory.input},
            {"read_back", status.memory.read_back}}},
          {"held", to_json(status.held)},
          {"history_start", status.history_start},
          {"security", status.security},
          {"keys", status.keys},
          {"refused_handshakes", status.refused_handshakes},
          {"slow_readers", status.slow_readers},
          {"connections", to_json(status.connections)},
          {"log_lines_dropped", status.log_lines_dropped},
          {"alerts", list(alerts_of(status))}};
}

Json queues_json(const Status& status) {
  return {{"queues", list(status.queues)}, {"other_queues", to_json(status.other_queues)}};
}
// A list of one pair would be taken for an array, so this says that it is an object.
Json workers_json(const Status& status) {
  return Json::object({{"workers", list(status.workers)}});
}

std::string json_text(const Json& json) {
  return terminal_json(json.dump(-1, ' ', false, Json::error_handler_t::replace)) + "\n";
}

}  // namespace millrace::admin
