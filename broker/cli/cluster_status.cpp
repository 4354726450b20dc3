#include "broker/cli/cluster_status.h"

#include <fmt/format.h>

#include <algorithm>

#include "broker/cli/status_text.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::json;
using Named = std::map<std::string, Json>;

const Row kHeading{"HTTP",        "BROKER", "STATE", ">READY",   ">LEASED",
                   ">RETRY-WAIT", ">DEAD",  ">DONE", ">WORKERS", ">UP"};

uint64_t number(const Json& object, const char* key) { return object.at(key).get<uint64_t>(); }

void add_to(Json& sum, const char* key, uint64_t more) {
  sum[key] = sum.value(key, uint64_t{0}) + more;
}

// Every key, also those that a newer broker has.
void add_all(Json& sum, const Json& counts) {
  for (const auto& [key, value] : counts.items()) add_to(sum, key.c_str(), value.get<uint64_t>());
}

Json values_of(const Named& named) {
  Json list = Json::array();
  for (const auto& [name, value] : named) list.push_back(value);
  return list;
}

uint64_t connected_of(const Json& workers) {
  return static_cast<uint64_t>(
      std::count_if(workers.begin(), workers.end(),
                    [](const Json& worker) { return worker.at("connected").get<bool>(); }));
}

Row row_of(const Endpoint& http, const Json& status) {
  const Json& jobs = status.at("jobs");
  const bool full = status.at("journal").at("rejecting").get<bool>();
  return {http.authority(),
          text(status, "broker"),
          text(status, "state") + (full ? ", disk full" : ""),
          count(jobs, "ready"),
          count(jobs, "leased"),
          count(jobs, "retry_wait"),
          count(jobs, "dead"),
          count(jobs, "done"),
          grouped(connected_of(status.at("workers"))),
          span(number(status, "uptime_ms"))};
}

}  // namespace

void ClusterStatus::Sums::add_queue(const Json& queue) {
  const auto name = queue.at("name").get<std::string>();
  Json& sum = queues.try_emplace(name, Json{{"name", name}, {"workers", 0}}).first->second;
  for (const char* key : {"scheduled", "ready", "leased", "retry_wait", "dead", "done"})
    add_to(sum, key, number(queue, key));
  // A worker demands from all brokers, so their numbers don't add up.
  sum["workers"] = std::max(number(sum, "workers"), number(queue, "workers"));
}

void ClusterStatus::Sums::add_worker(const Json& worker) {
  const std::string name = worker_name(worker);
  Json& sum =
      workers.try_emplace(name, Json{{"name", name}, {"brokers", 0}, {"threads", 0}}).first->second;
  for (const char* key : {"in_flight", "done", "failed"}) add_to(sum, key, number(worker, key));
  add_to(sum, "brokers", worker.at("connected").get<bool>() ? 1 : 0);
  sum["threads"] = std::max(number(sum, "threads"), number(worker, "threads"));
}

void ClusterStatus::Sums::add(const Json& status) {
  add_all(jobs, status.at("jobs"));
  add_all(totals, status.at("totals"));
  for (const Json& queue : status.at("queues")) add_queue(queue);
  for (const Json& worker : status.at("workers")) add_worker(worker);
  producers += number(status, "producers");
}

void ClusterStatus::add(const Endpoint& http, const Json& status) {
  Sums sums = sums_;
  sums.add(status);
  rows_.push_back(row_of(http, status));
  states_.push_back(text(status, "state"));
  sums_ = std::move(sums);
  brokers_.push_back({{"http", http.authority()}, {"status", status}});
  names_.emplace(text(status, "broker"), http.authority());
}

const std::string* ClusterStatus::find(const std::string& broker_id) const {
  auto found = names_.find(broker_id);
  return found == names_.end() ? nullptr : &found->second;
}

void ClusterStatus::add_absent(const Endpoint& http, const std::string& why) {
  Row row(kHeading.size(), "-");
  row[0] = http.authority();
  row[2] = "no answer";
  rows_.push_back(std::move(row));
  brokers_.push_back({{"http", http.authority()}, {"error", why}});
}

std::string ClusterStatus::state() const {
  if (states_.empty()) return "unreachable";
  const bool all =
      states_.size() == brokers_.size() && std::count(states_.begin(), states_.end(), states_[0]) ==
                                               static_cast<std::ptrdiff_t>(states_.size());
  return all ? states_[0] : "degraded";
}

nlohmann::ordered_json ClusterStatus::to_json() const {
  return {{"brokers", brokers_},
          {"state", state()},
          {"jobs", sums_.jobs},
          {"totals", sums_.totals},
          {"queues", values_of(sums_.queues)},
          {"workers", values_of(sums_.workers)},
          {"producers", sums_.producers}};
}

std::string ClusterStatus::worker_table() const {
  std::vector<Row> rows{{"WORKER", ">BROKERS", ">THREADS", ">IN-FLIGHT", ">DONE", ">FAILED"}};
  for (const auto& [name, worker] : sums_.workers)
    rows.push_back({text(worker, "name"), count(worker, "brokers"), count(worker, "threads"),
                    count(worker, "in_flight"), count(worker, "done"), count(worker, "failed")});
  return table(std::move(rows));
}

std::string ClusterStatus::to_text() const {
  std::string out = fmt::format("cluster  {}  {} of {} brokers answer\n", state(), states_.size(),
                                brokers_.size());
  if (!states_.empty()) out += jobs_text(sums_.jobs);
  std::vector<Row> rows{kHeading};
  rows.insert(rows.end(), rows_.begin(), rows_.end());
  out += "\n" + table(std::move(rows));
  if (!sums_.queues.empty()) out += "\n" + queue_table(values_of(sums_.queues));
  if (!sums_.workers.empty()) out += "\n" + worker_table();
  return out;
}

}  // namespace millrace::admin
