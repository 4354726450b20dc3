#include "broker/core/dispatch/recalls.h"

#include <algorithm>
#include <map>

namespace millrace::core {
namespace {

constexpr Millis kRecallEvery{100};
// Beside kRecallEvery, so that looking at all sessions stays below a hundredth of the time.
constexpr std::chrono::microseconds kRecallPerSession{10};
// Who has had a job for less will start it soon, or has not received it yet.
constexpr Millis kRecallAfter{100};
constexpr size_t kLooks = 65536;  // at leases and subscribers, at a time

}  // namespace

// Of workers that could run a job at once.
struct Recalls::FreeThreads {
  std::map<SessionId, uint64_t> of;                                  // above 0
  std::map<Subscriptions::Audience*, std::vector<SessionId>> among;  // the subscribers of these
  size_t looks = kLooks;                                             // left
};

void Recalls::begin() { next_ = context_.now.mono + kRecallEvery; }

std::optional<Mono> Recalls::wake_at() const {
  if (!may_recall()) return std::nullopt;
  return next_;
}

bool Recalls::may_recall() const { return !context_.draining && state_.leased_jobs() > 0; }

// Who starts jobs in the order of their leases has not started those behind its first `threads`.
// That is a guess (a pool may have grown): to ask for a job that has started changes nothing, so
// each is asked for once, the oldest first.
void Recalls::tick(Output& out) {
  if (context_.now.mono < next_) return;
  next_ = context_.now.mono + kRecallEvery + kRecallPerSession * sessions_.size();
  if (!may_recall()) return;
  FreeThreads free;
  std::vector<SessionId> busy;
  for (auto& [id, session] : sessions_.all()) {
    if (!session.is_worker || !sessions_.has_room(session)) continue;
    const uint64_t held = state_.leases_of(session.worker);
    const uint64_t runs = std::min(session.credit, session.threads);
    if (held < runs) free.of[id] = runs - held;
    if (held > std::max<uint64_t>(session.threads, 1)) busy.push_back(id);
  }
  std::sort(busy.begin(), busy.end());  // the order must not depend on a hash table
  std::rotate(busy.begin(), std::upper_bound(busy.begin(), busy.end(), recalled_from_), busy.end());
  for (SessionId id : busy) {
    if (free.of.empty() || free.looks == 0) return;
    recall_from(sessions_.at(id), free, out);
    recalled_from_ = id;
  }
}

void Recalls::recall_from(Session& session, FreeThreads& free, Output& out) {
  const Epoch started =
      state_.leases().nth_epoch(session.worker, std::max<uint64_t>(session.threads, 1));
  std::vector<Lease> waiting;  // the newest first
  state_.leases().for_each_of(session.worker, [&](JobId job, const LeaseInfo& lease) {
    if (lease.epoch > started && context_.now.mono - lease.since >= kRecallAfter)
      waiting.push_back({job, lease.epoch});
  });
  free.looks -= std::min<size_t>(free.looks, state_.leases_of(session.worker));
  protocol::Recall message;
  for (auto lease = waiting.rbegin(); lease != waiting.rend(); ++lease) {
    if (free.of.empty() || message.jobs.size() == protocol::kMaxJobsPerMessage) break;
    if (state_.leases().is_recalled(lease->job)) continue;
    if (!take_free_thread(state_.find(lease->job)->queue, free)) continue;
    state_.leases().set_recalled(lease->job, true);
    message.jobs.push_back(*lease);
  }
  if (!message.jobs.empty()) sessions_.send(session, std::move(message), out);
}

// One that could have a job of the queue, and has no other to wait for.
bool Recalls::take_free_thread(QueueIndex index, FreeThreads& free) {
  const Queue& queue = state_.queues()[index];
  Subscriptions::Audience* audience = dispatcher_.audience_of(index);
  if (!audience || queue.settings.paused || !queue.ready.empty()) return false;
  auto [found, is_new] = free.among.try_emplace(audience);
  if (is_new) {
    const std::vector<SessionId>& subscribers = subscriptions_.sessions_of(*audience);
    free.looks -= std::min(free.looks, subscribers.size());
    for (SessionId id : subscribers)
      if (free.of.contains(id)) found->second.push_back(id);
  }
  std::vector<SessionId>& workers = found->second;
  while (!workers.empty() && !free.of.contains(workers.back())) workers.pop_back();
  if (workers.empty()) return false;
  auto threads = free.of.find(workers.back());
  if (--threads->second == 0) free.of.erase(threads);
  return true;
}

}  // namespace millrace::core
