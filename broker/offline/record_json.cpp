#include "broker/offline/record_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/base64.h"

namespace millrace::offline {
namespace {

using namespace records;
using Json = nlohmann::ordered_json;
using protocol::JobRange;

constexpr const char* kNames[] = {"started",         "accepted",        "leased",    "done",
                                  "failed",          "returned",        "due",       "collected",
                                  "producer_gone",   "checkpoint",      "matched",   "cancelled",
                                  "expired",         "requeued",        "queue_set", "relocated",
                                  "result_retained", "history_trimmed", "absent"};
static_assert(std::size(kNames) == std::variant_size_v<Record>);

constexpr const char* kFailKinds[] = {"retryable", "permanent", "crash"};
constexpr const char* kReturnReasons[] = {"released", "lost", "expired", "never_arrived"};
constexpr const char* kCancelReasons[] = {"asked", "purged", "dropped"};
constexpr const char* kReports[] = {"none", "outcome", "result"};

template <size_t N, typename Enum>
const char* word(const char* const (&words)[N], Enum value) {
  return size_t(value) < N ? words[size_t(value)] : "unknown";
}

bool within(JobId job, JobId first, uint64_t count) {
  return job >= first && job.value - first.value < count;
}

Json runs_json(const std::vector<JobRange>& runs) {
  Json list = Json::array();
  for (const JobRange& run : runs) list.push_back(Json::array({run.first.value, run.count}));
  return list;
}

Json settings_json(const QueueSet& queue) {
  const QueueSettings& s = queue.settings;
  return {{"queue", queue.queue},
          {"weight", s.weight},
          {"order", s.order == Order::fair ? "fair" : "fifo"},
          {"paused", s.paused},
          {"concurrency", s.concurrency},
          {"rate", s.rate},
          {"max_length", s.max_length},
          {"max_attempts", s.max_attempts},
          {"backoff_min_ms", s.backoff_min.count()},
          {"backoff_max_ms", s.backoff_max.count()},
          {"lease_ms", s.lease.count()},
          {"ttl_ms", s.ttl.count()}};
}

struct Describer {
  bool payloads;

  Json operator()(const Started& r) const {
    return {{"incarnation", r.incarnation},
            {"time_ms", to_int(r.time)},
            {"first_epoch", r.first_epoch.value}};
  }
  Json operator()(const Accepted& r) const {
    uint64_t bytes = 0;
    for (std::string_view payload : r.payloads) bytes += payload.size();
    Json json = {{"first_job", r.first_job.value},
                 {"count", r.payloads.size()},
                 {"queue", r.queue},
                 {"producer", r.producer.hex()},
                 {"first_seq", r.first_seq.value},
                 {"floor", r.floor.value},
                 {"time_ms", to_int(r.time)},
                 {"report", word(kReports, r.report)},
                 {"max_attempts", r.max_attempts},
                 {"priority", r.priority},
                 {"due_ms", to_int(r.due)},
                 {"expires_ms", to_int(r.expires)},
                 {"payload_bytes", bytes}};
    if (!r.keys.empty()) json["keys"] = r.keys;
    if (!payloads) return json;
    Json list = Json::array();
    for (std::string_view payload : r.payloads) list.push_back(base64(payload));
    json["payloads_base64"] = std::move(list);
    return json;
  }
  Json operator()(const Leased& r) const {
    return {{"worker", r.worker.hex()},
            {"first_epoch", r.first_epoch.value},
            {"jobs", runs_json(r.runs)}};
  }
  Json operator()(const Done& r) const {
    Json runs = Json::array();
    for (const DoneRun& run : r.runs)
      runs.push_back(Json::array({run.first.value, run.first_epoch.value, run.count}));
    uint64_t bytes = 0;
    for (const JobResult& result : r.results) bytes += result.bytes.size();
    Json json = {{"time_ms", to_int(r.time)},
                 {"jobs_epochs", std::move(runs)},
                 {"results", r.results.size()},
                 {"result_bytes", bytes}};
    for (const QueueTotal& total : r.totals) json["done_of_queue"][total.queue] = total.done;
    if (!payloads) return json;
    Json list = Json::array();
    for (const JobResult& result : r.results)
      list.push_back(Json::array({result.job.value, base64(result.bytes)}));
    json["results_base64"] = std::move(list);
    return json;
  }
  Json operator()(const Failed& r) const {
    return {{"job", r.lease.job.value},  {"epoch", r.lease.epoch.value},
            {"time_ms", to_int(r.time)}, {"kind", word(kFailKinds, r.kind)},
            {"due_ms", to_int(r.due)},   {"dead", r.due == WallMs{}},
            {"worker", r.worker},        {"error", r.error}};
  }
  Json operator()(const Returned& r) const {
    Json jobs = Json::array();
    for (const auto& entry : r.jobs)
      jobs.push_back(Json::array({entry.lease.job.value, entry.lease.epoch.value, entry.dead}));
    return {{"time_ms", to_int(r.time)},
            {"reason", word(kReturnReasons, r.reason)},
            {"worker", r.worker},
            {"jobs_epochs_dead", std::move(jobs)}};
  }
  Json operator()(const Due& r) const { return {{"jobs", runs_json(r.runs)}}; }
  Json operator()(const Collected& r) const { return {{"jobs", runs_json(r.runs)}}; }
  Json operator()(const ProducerGone& r) const { return {{"producer", r.producer.hex()}}; }
  // The sums; its lists have a piece for each job in the worst case.
  Json operator()(const Checkpoint& r) const {
    uint64_t known = 0;
    for (const ProducerState& producer : r.producers) known += producer.known.size();
    const Counts& c = r.counts;
    return {{"broker", fmt::format("{:08x}", r.broker.value)},
            {"incarnation", r.incarnation},
            {"next_job", r.next_job.value},
            {"next_epoch", r.next_epoch.value},
            {"counts",
             {{"accepted", c.accepted},
              {"done", c.done},
              {"dead", c.dead},
              {"attempts", c.attempts},
              {"crashes", c.crashes},
              {"failures", c.failures},
              {"cancelled", c.cancelled},
              {"expired", c.expired},
              {"revived", c.requeued}}},
            {"done_runs", r.done.size()},
            {"cancelled_runs", r.cancelled.size()},
            {"expired_runs", r.expired.size()},
            {"producers", r.producers.size()},
            {"producer_runs", known},
            {"queues", r.queues.size()},
            {"keys", r.keys.size()},
            {"totals", r.totals ? Json(r.totals->size()) : Json(nullptr)},
            {"history_start", r.history_start.value},
            {"absent", r.absent.size()}};
  }
  Json operator()(const HistoryTrimmed& r) const { return {{"below", r.below.value}}; }
  Json operator()(const Absent& r) const {
    Json workers = Json::array();
    for (const Absence& absence : r.workers)
      workers.push_back(Json::array({absence.worker.hex(), absence.periods}));
    return {{"workers_periods", std::move(workers)}};
  }
  Json operator()(const Matched& r) const {
    return {{"producer", r.producer.hex()},
            {"seq", r.seq.value},
            {"floor", r.floor.value},
            {"time_ms", to_int(r.time)},
            {"job", r.job.value}};
  }
  Json operator()(const Cancelled& r) const {
    return {{"time_ms", to_int(r.time)},
            {"reason", word(kCancelReasons, r.reason)},
            {"jobs", runs_json(r.runs)}};
  }
  Json operator()(const Expired& r) const { return {{"jobs", runs_json(r.runs)}}; }
  Json operator()(const Requeued& r) const {
    return {{"time_ms", to_int(r.time)}, {"jobs", runs_json(r.runs)}};
  }
  Json operator()(const QueueSet& r) const { return settings_json(r); }
  Json operator()(const Relocated& r) const {
    Json history = Json::array();
    for (const AttemptFailure& t : r.history)
      history.push_back({{"attempt", t.attempt},
                         {"worker", t.worker},
                         {"error", t.error},
                         {"time_ms", to_int(t.time)}});
    Json json = {{"job", r.job.value},
                 {"queue", r.queue},
                 {"state", protocol::name_of(r.state)},
                 {"producer", r.producer.hex()},
                 {"report", word(kReports, r.report)},
                 {"max_attempts", r.max_attempts},
                 {"priority", r.priority},
                 {"attempts", r.attempts},
                 {"failures", r.failures},
                 {"crashes", r.crashes},
                 {"due_ms", to_int(r.due)},
                 {"expires_ms", to_int(r.expires)},
                 {"epoch", r.epoch.value},
                 {"worker", r.worker.hex()},
                 {"history", std::move(history)},
                 {"payload_bytes", r.payload.size()}};
    if (payloads) json["payload_base64"] = base64(r.payload);
    return json;
  }
  Json operator()(const ResultRetained& r) const {
    Json json = {{"job", r.job.value},
                 {"attempts", r.attempts},
                 {"time_ms", to_int(r.time)},
                 {"result_bytes", r.result.size()}};
    if (payloads) json["result_base64"] = base64(r.result);
    return json;
  }
};

}  // namespace

const char* name_of_type(size_t index) { return kNames[index]; }
const char* name_of(const Record& record) { return name_of_type(record.index()); }

WallMs time_of(const Record& record) {
  return std::visit(
      [](const auto& r) {
        if constexpr (requires { r.time; }) return r.time;
        return WallMs{};
      },
      record);
}

bool concerns(const Record& record, JobId job) {
  return std::visit(
      [job](const auto& r) {
        using T = std::decay_t<decltype(r)>;
        if constexpr (std::is_same_v<T, Accepted>)
          return within(job, r.first_job, r.payloads.size());
        else if constexpr (std::is_same_v<T, Failed>)
          return r.lease.job == job;
        else if constexpr (std::is_same_v<T, Matched> || std::is_same_v<T, Relocated> ||
                           std::is_same_v<T, ResultRetained>)
          return r.job == job;
        else if constexpr (std::is_same_v<T, Returned>)
          return std::any_of(r.jobs.begin(), r.jobs.end(),
                             [&](const auto& entry) { return entry.lease.job == job; });
        else if constexpr (requires { r.runs; })
          return std::any_of(r.runs.begin(), r.runs.end(),
                             [&](const auto& run) { return within(job, run.first, run.count); });
        else
          return false;
      },
      record);
}

nlohmann::ordered_json record_json(const Record& record, bool payloads) {
  return std::visit(Describer{payloads}, record);
}

std::string record_text(const std::string& name, const nlohmann::ordered_json& fields) {
  std::string line = name;
  for (const auto& [key, value] : fields.items())
    line += " " + key + "=" + value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return line;
}

}  // namespace millrace::offline
