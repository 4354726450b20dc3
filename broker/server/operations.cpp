#include "broker/server/operations.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "broker/admin/status_json.h"
#include "broker/listing/job_record.h"
#include "broker/listing/queue_listing.h"

namespace millrace::server {
namespace {

using admin::Answer;
using protocol::JobState;
using Json = nlohmann::ordered_json;

Answer ok(const Json& json) { return http::ok("application/json", admin::json_text(json)); }

const char* name_of(core::BulkKind kind) {
  return kind == core::BulkKind::purge ? "purge" : kind == core::BulkKind::retry ? "retry" : "drop";
}

Json json_of(const core::BulkOperation& operation, uint64_t incarnation) {
  Json json{{"id", fmt::format("{}-{}", incarnation, operation.number)},
            {"kind", name_of(operation.request.kind)},
            {"state", operation.done ? "done" : "running"},
            {"done", operation.changed},
            {"examined", operation.examined},
            {"total", operation.total}};
  if (operation.request.kind == core::BulkKind::purge) json["queue"] = operation.request.queue;
  return json;
}

// One operation; every overload answers for one kind.
class Operator {
 public:
  Operator(core::Core& core, Now now, core::Output& out) : core_(core), now_(now), out_(out) {}

  Answer operator()(const admin::ListJobs& asked) {
    const std::string& queue = asked.filter.queue;
    if (!queue.empty() && !state().has_queue(queue)) return no_queue(queue);
    if (asked.cursor.broker && *asked.cursor.broker != state().broker())
      return http::problem(422, "cursor: it is of another broker; list from the start again");
    listing_.emplace(std::in_place_type<listing::JobListing>, asked, core_, now_);
    return {};
  }

  Answer operator()(const admin::ListDead& asked) {
    const std::string& queue = asked.filter.queue;
    if (!queue.empty() && !state().has_queue(queue)) return no_queue(queue);
    listing_.emplace(std::in_place_type<listing::DeadListing>, asked, core_, now_);
    return {};
  }

  Answer operator()(const admin::ShowJob& asked) {
    const JobId id = asked.job.job;
    if (auto absent = find_absent(asked.job)) return *absent;
    return ok(listing::job_record(core_, now_, id));
  }

  Answer operator()(const admin::ShowPayload& asked) {
    if (auto absent = find_absent(asked.job)) return *absent;
    payload_ = asked.job.job;
    return {};
  }

  Answer operator()(const admin::CancelJob& asked) {
    const JobId id = asked.job.job;
    if (auto absent = find_absent(asked.job)) return *absent;
    const JobState before = state().state_of(id);
    if (before == JobState::dead)
      return http::problem(409,
                           fmt::format("job {} is dead: drop it instead, or retry it", text(id)));
    const uint64_t cancelled = core_.cancel(now_, {{id, 1}}, out_);
    if (cancelled == 0 && before != JobState::cancelled)
      return http::problem(
          409, fmt::format("job {} has ended already: it is {}", text(id), name_of(before)));
    return ok({{"id", text(id)}, {"cancelled", cancelled}, {"was", name_of(before)}});
  }

  Answer operator()(const admin::ListQueues& asked) {
    constexpr uint64_t kLooks = 4096;
    const auto& queues = state().queues();
    Json page{{"queues", Json::array()}, {"next", nullptr}};
    uint64_t at = std::min<uint64_t>(asked.cursor, queues.size());
    const uint64_t end = std::min<uint64_t>(queues.size(), at + kLooks);
    for (; at < end && page["queues"].size() < admin::kMaxQueuesListed; ++at)
      if (queues[at].in_use())
        page["queues"].push_back(
            admin::queue_json(listing::queue_status(core_, core::QueueIndex(at))));
    if (at < queues.size()) page["next"] = at;
    return ok(page);
  }

  Answer operator()(const admin::ShowQueue& asked) {
    const auto queue = state().find_queue(asked.queue);
    if (!queue) return no_queue(asked.queue);
    return ok(admin::queue_json(listing::queue_status(core_, *queue)));
  }

  Answer operator()(const admin::DeleteQueue& asked) {
    const auto found = state().find_queue(asked.queue);
    if (!found) return no_queue(asked.queue);
    const core::Queue& queue = state().queues()[*found];
    if (const uint64_t jobs = queue.length() + queue.dead; jobs > 0)
      return http::problem(
          409, fmt::format("queue '{}' holds {} jobs ({} of them leased, {} dead): purge it and "
                           "drop its dead jobs, then delete it",
                           asked.queue, jobs, queue.leased, queue.dead));
    core_.delete_queue(now_, *found, out_);
    return ok(Json::object({{"name", asked.queue}, {"deleted", true}}));
  }

  Answer operator()(const admin::PurgeQueue& asked) {
    if (!state().has_queue(asked.queue)) return no_queue(asked.queue);
    return begin({core::BulkKind::purge, asked.queue, {}});
  }

  Answer operator()(const admin::SetQueue& asked) {
    const bool known = state().has_queue(asked.queue);
    if (!known && !asked.makes) return no_queue(asked.queue);
    if (!known && state().queue_count() >= core_.settings().max_queues)
      return http::problem(409, fmt::format("there are {} queues already, and there can be no more "
                                            "(--max-queues of the broker)",
                                            state().queue_count()));
    const records::QueueSettings before =
        known ? settings_of(asked.queue) : records::QueueSettings{};
    auto after = admin::changed(before, asked.change);
    if (!after) return http::problem(422, after.error().message);
    if (before == records::QueueSettings{} && *after != before &&
        !state().has_room_for_settings(asked.queue))
      return http::problem(
          409, fmt::format("too many queues have settings of their own: each takes its name and 90 "
                           "bytes of {} MiB. Delete queues that are not needed, or set others "
                           "back to their defaults",
                           core::kMaxQueueSettingBytes >> 20));
    if (!known || *after != before) core_.set_queue(now_, asked.queue, *after, out_);
    return ok({{"name", asked.queue}, {"settings", admin::settings_json(*after)}});
  }

  Answer operator()(const admin::RetryDead& asked) {
    return on_dead(core::BulkKind::retry, asked.choice);
  }
  Answer operator()(const admin::DropDead& asked) {
    return on_dead(core::BulkKind::drop, asked.choice);
  }

  Answer operator()(const admin::ShowOperation& asked) {
    if (asked.incarnation == state().incarnation())
      if (const auto* operation = core_.operations().find(asked.number))
        return ok(json_of(*operation, state().incarnation()));
    return http::problem(
        404, fmt::format("there is no operation {}-{}: a restart ends those that are pending (what "
                         "they did until then stays done), and of those that are done the last {} "
                         "are remembered",
                         asked.incarnation, asked.number, core::BulkOperations::kMaxEnded));
  }

  std::optional<uint64_t> pending() const { return pending_; }
  std::optional<JobId> payload() const { return payload_; }
  std::optional<Listing> take_listing() { return std::move(listing_); }

 private:
  const core::State& state() const { return core_.state(); }
  std::string text(JobId id) const { return job_text(state().broker(), id); }

  std::optional<Answer> find_absent(const admin::JobName& name) const {
    const BrokerId here = state().broker();
    if (name.broker && *name.broker != here)
      return http::problem(
          404, fmt::format("job {} is of broker {:08x}; this is broker {:08x}",
                           job_text(*name.broker, name.job), name.broker->value, here.value));
    if (state().state_of(name.job) != JobState::unknown) return std::nullopt;
    return http::problem(
        404, fmt::format("there is no job {}: none of this number was ever accepted here",
                         text(name.job)));
  }

  Answer no_queue(const std::string& queue) const {
    return http::problem(404, fmt::format("there is no queue '{}'", queue));
  }

  const records::QueueSettings& settings_of(const std::string& queue) {
    return state().queues()[core_.state().queue_index(queue)].settings;
  }

  Answer begin(core::BulkRequest request) {
    const core::BulkOperation* operation = core_.start(now_, std::move(request));
    if (!operation) {
      Answer busy = http::problem(
          429, fmt::format("{} operations are pending already; ask again when one is done",
                           core::BulkOperations::kMaxPending));
      busy.headers.emplace_back("Retry-After", "1");
      return busy;
    }
    pending_ = operation->number;
    Answer accepted = ok(json_of(*operation, state().incarnation()));
    accepted.status = 202;
    accepted.headers.emplace_back("Location", "/v1/operations/" + id_of(*operation));
    return accepted;
  }
  std::string id_of(const core::BulkOperation& operation) const {
    return fmt::format("{}-{}", state().incarnation(), operation.number);
  }

  Answer on_dead(core::BulkKind kind, const admin::DeadChoice& choice) {
    core::DeadFilter filter{{}, choice.queue, choice.error, choice.older};
    if (choice.job) {
      if (auto absent = find_absent(*choice.job)) return *absent;
      const JobId id = choice.job->job;
      if (const JobState is = state().state_of(id); is != JobState::dead)
        return http::problem(409, fmt::format("job {} is {}, not dead", text(id), name_of(is)));
      filter.jobs = {{id, 1}};
    }
    if (!choice.queue.empty() && !state().has_queue(choice.queue)) return no_queue(choice.queue);
    return begin({kind, "", std::move(filter)});
  }

  core::Core& core_;
  const Now now_;
  core::Output& out_;
  std::optional<uint64_t> pending_;
  std::optional<Listing> listing_;
  std::optional<JobId> payload_;
};

}  // namespace

Performed perform(core::Core& core, Now now, const admin::Operation& operation, core::Output& out) {
  Operator performer(core, now, out);
  Answer answer = std::visit(performer, operation);
  return {std::move(answer), performer.pending(), performer.take_listing(), performer.payload()};
}

Answer answer_of(const core::BulkOperation& done) {
  switch (done.request.kind) {
    case core::BulkKind::purge:
      return ok({{"queue", done.request.queue}, {"purged", done.changed}});
    case core::BulkKind::retry:
      return ok(Json::object({{"retried", done.changed}}));
    case core::BulkKind::drop:
      break;
  }
  return ok(Json::object({{"dropped", done.changed}}));
}

}  // namespace millrace::server
