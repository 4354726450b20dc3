// What a person changes in a queue's settings: only what is given changes.
// Shape:   a JSON object with the keys of queue settings in status_json.h; "backoff": "500ms..5m"
//          may stand for backoff_min_ms and backoff_max_ms. 0 takes a limit away, or gives the
//          broker's default back.
// Units:   as the keys say
// Limits:  kQueueNumbers in queue_change.cpp
// Errors:  usage (64): not such an object, or an unknown key; bad_data (65): a value out of range.
//          Both name the key.
// Threads: immutable
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "broker/records/records.h"
#include "common/base/result.h"

namespace millrace::admin {

struct QueueChange {
  std::optional<records::Order> order;
  std::optional<bool> paused;
  std::optional<uint64_t> weight, concurrency, rate, max_length, max_attempts;
  std::optional<uint64_t> backoff_min_ms, backoff_max_ms, lease_ms, ttl_ms;
};

Result<QueueChange> read_queue_change(const nlohmann::json& body);

// The settings after the change.
Result<records::QueueSettings> changed(records::QueueSettings settings, const QueueChange& change);

}  // namespace millrace::admin
