// Several brokers seen as one cluster: what each says of itself, and what that makes together.
// Shape:   the answers of /v1/status, one by one → one object, or a short text for people. What
//          counts jobs is summed; a worker that several brokers know is one worker, known by its
//          name. `state` is that of all brokers where they agree, else degraded; unreachable when
//          none answers.
// Errors:  add() throws nlohmann::json::exception when a key is missing, and has then added nothing
// Threads: one thread
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "broker/cli/text_table.h"
#include "common/base/units.h"

namespace millrace::admin {

class ClusterStatus {
 public:
  void add(const Endpoint& http, const nlohmann::json& status);
  // The name under which a broker was added; nullptr: it was not.
  const std::string* find(const std::string& broker_id) const;
  // One that can't be asked, and why.
  void add_absent(const Endpoint& http, const std::string& why);

  nlohmann::ordered_json to_json() const;
  std::string to_text() const;

 private:
  // Everything that is summed. By name, so that the order is that of the alphabet.
  struct Sums {
    nlohmann::json jobs = nlohmann::json::object(), totals = jobs;
    std::map<std::string, nlohmann::json> queues, workers;
    uint64_t producers = 0;

    void add(const nlohmann::json& status);
    void add_queue(const nlohmann::json& queue);
    void add_worker(const nlohmann::json& worker);
  };

  std::string state() const;
  std::string worker_table() const;

  nlohmann::json brokers_ = nlohmann::json::array();
  std::vector<std::string> states_;           // of those that answer
  std::map<std::string, std::string> names_;  // by the broker's id
  std::vector<Row> rows_;                     // for people, one a broker
  Sums sums_;
};

}  // namespace millrace::admin
