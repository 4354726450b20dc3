#include "broker/listing/job_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/base64.h"
#include "common/base/terminal_text.h"
#include "common/base/utf8.h"

namespace millrace::listing {
namespace {

using Json = nlohmann::ordered_json;
using protocol::JobState;

constexpr size_t kMaxReason = 200;  // bytes of an error in a sentence

Json time_or_null(std::optional<WallMs> time) { return time ? Json(to_int(*time)) : Json(nullptr); }

Json history_of(const std::vector<core::AttemptFailure>& failures) {
  Json history = Json::array();
  for (const core::AttemptFailure& failure : failures)
    history.push_back({{"attempt", failure.attempt},
                       {"worker", failure.worker},
                       {"error", failure.error},
                       {"time_ms", to_int(failure.time)}});
  return history;
}

std::string worker_name(const core::Core& core, core::WorkerIndex worker) {
  for (const auto& [id, session] : core.sessions())
    if (session.is_worker && session.worker == worker) return session.name;
  return "";
}

Json lease_of(const core::Core& core, Now now, const core::LeaseInfo& lease) {
  const core::State& state = core.state();
  const auto left =
      std::chrono::duration_cast<Millis>(lease.since + state.leases().duration(lease) - now.mono);
  return {{"worker", worker_name(core, lease.worker)},
          {"worker_id", state.worker_id(lease.worker).hex()},
          {"ends_ms", to_int(now.wall + left)}};
}

void add_live(Json& json, const core::Core& core, Now now, JobId id, const core::Job& job) {
  const core::State& state = core.state();
  json["queue"] = state.queues()[job.queue].name;
  json["attempts"] = job.attempts;
  json["failures"] = job.failures;
  json["crashes"] = job.crashes;
  json["priority"] = job.priority;
  json["due_ms"] = time_or_null(state.due_of(id));
  json["expires_ms"] = time_or_null(state.expiry_of(id));
  if (const Uuid producer = state.relocated(id).producer; producer != Uuid{})
    json["producer"] = producer.hex();
  if (const core::LeaseInfo* lease = state.lease_of(id))
    json["lease"] = lease_of(core, now, *lease);
  const auto* failures = state.history_of(id);
  json["history"] = failures ? history_of(*failures) : Json::array();
}

void add_result(Json& json, const core::RetainedResult& result) {
  json["attempts"] = result.attempts;
  json["ended_ms"] = to_int(result.time);
  json["result_bytes"] = result.bytes.size();
  const bool text = protocol::is_utf8(result.bytes);
  json[text ? "result" : "result_base64"] = text ? result.bytes : base64(result.bytes);
}

std::string shortened(std::string text) {
  if (text.size() <= kMaxReason) return text;
  size_t end = kMaxReason;
  while (end > 0 && (text[end] & 0xc0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

}  // namespace

std::string dumped(const Json& json) {
  return terminal_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Json job_summary(const core::State& state, JobId id, const core::Job& job,
                 const std::string& worker) {
  Json entry{{"id", job_text(state.broker(), id)},
             {"queue", state.queues()[job.queue].name},
             {"state", name_of(job.state)},
             {"priority", job.priority},
             {"attempts", job.attempts},
             {"failures", job.failures},
             {"crashes", job.crashes},
             {"due_ms", time_or_null(state.due_of(id))},
             {"expires_ms", time_or_null(state.expiry_of(id))}};
  if (const core::LeaseInfo* lease = state.lease_of(id)) {
    entry["worker"] = worker;
    entry["worker_id"] = state.worker_id(lease->worker).hex();
  }
  if (const core::AttemptFailure* failure = state.last_failure_of(id))
    entry["last_failure"] = {
        {"worker", failure->worker}, {"error", failure->error}, {"time_ms", to_int(failure->time)}};
  return entry;
}

// By the limits that hold now; those that it met may have been others.
std::string death_reason(const core::Core& core, JobId id, const core::Job& job) {
  const core::Settings& settings = core.settings();
  const uint8_t of_queue = core.state().queues()[job.queue].settings.max_attempts;
  const uint8_t limit = job.max_attempts ? job.max_attempts
                        : of_queue       ? of_queue
                                         : settings.max_attempts;
  if (job.crashes >= settings.crash_limit)
    return fmt::format("crash limit of {} reached", settings.crash_limit);
  if (job.failures >= limit)
    return limit == 1 ? "its only attempt failed" : fmt::format("all {} attempts failed", limit);
  const core::AttemptFailure* failure = core.state().last_failure_of(id);
  if (!failure || failure->error.empty()) return "failed permanently";
  return fmt::format("failed permanently ({})", shortened(failure->error));
}

Json job_record(const core::Core& core, Now now, JobId id) {
  const core::State& state = core.state();
  const core::Job* job = state.find(id);
  core::Explanation explanation = core.explain(now, id);
  if (explanation.state == JobState::dead)
    explanation.why = death_reason(core, id, *job) + "; it waits for a retry or a drop";
  Json json{{"id", job_text(state.broker(), id)},
            {"state", name_of(explanation.state)},
            {"why", explanation.why}};
  if (job) add_live(json, core, now, id, *job);
  if (const core::RetainedResult* result = state.result_of(id)) add_result(json, *result);
  return json;
}

}  // namespace millrace::listing
