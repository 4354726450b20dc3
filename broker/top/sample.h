// What `top` shows of a broker: one answer of /v1/status, and the rates since the one before.
// Shape:   read_sample() of the JSON → values; rates_between() two of them
// Units:   rates in jobs per second
// Errors:  read_sample() throws nlohmann::json::exception when a key is missing: not a broker
// Threads: any
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/time.h"

namespace millrace::top {

struct QueueSample {
  std::string name;
  uint64_t ready = 0, leased = 0, retry_wait = 0, scheduled = 0, dead = 0, done = 0, workers = 0;
  bool paused = false;
  double in = 0, out = 0;  // since the sample before

  // Every job that came and was neither cancelled nor expired is in exactly one of these.
  uint64_t seen() const { return ready + leased + retry_wait + scheduled + dead + done; }
};

struct WorkerSample {
  std::string name, id, queues;
  uint64_t threads = 0, credit = 0, in_flight = 0, done = 0, failed = 0;
  bool connected = true;
  double seconds_since_heard = 0;
  double out = 0;
};

struct AlertSample {
  bool critical = false;
  std::string subject, problem, remedy;
};

struct Sample {
  Mono at;
  std::string broker, state, fsync, version;
  uint64_t uptime_ms = 0;
  uint64_t ready = 0, leased = 0, retry_wait = 0, scheduled = 0, dead = 0;
  uint64_t accepted = 0, done = 0, failures = 0, rejected = 0, commits = 0;
  uint64_t journal_bytes = 0, segments = 0, disk_free = 0, last_commit_us = 0;
  uint64_t rss = 0, connections = 0, connection_limit = 0, producers = 0;
  std::vector<QueueSample> queues;
  uint64_t unlisted_queues = 0;
  std::vector<WorkerSample> workers;
  std::vector<AlertSample> alerts;

  double accepted_rate = 0, done_rate = 0, failure_rate = 0, rejected_rate = 0, commit_rate = 0;
};

Sample read_sample(const nlohmann::json& status, Mono at);

// Sets the rates of `now`. A counter that went back (the broker restarted) has none.
void set_rates(const Sample& before, Sample& now);

}  // namespace millrace::top
