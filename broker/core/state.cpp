#include "broker/core/state.h"

#include <algorithm>

#include "common/check.h"

namespace millrace::core {
namespace {

constexpr size_t kKeyCost = 160;  // of a key beside its bytes: two nodes

std::string scoped(std::string_view queue, std::string_view key) {
  std::string name(queue);
  name += '\0';
  return name += key;
}

// What must be the same when a journal is read again; keys are kept for a time that may have been
// set otherwise since.
bool agree(records::Checkpoint a, records::Checkpoint b) {
  a.keys.clear();
  b.keys.clear();
  a.totals = b.totals = std::nullopt;  // version 1 has none, so a state may begin without them
  return a == b;
}

bool agree(records::Carried a, const records::Carried& b) {
  a.payload = {};
  // Version 1 of the journal named the worker of a running lease only.
  if (a.state != protocol::JobState::leased && a.worker == Uuid{}) a.worker = b.worker;
  return a == b;
}

}  // namespace

std::optional<std::string> State::check(const Record& record) const {
  if (auto* accepted = std::get_if<records::Accepted>(&record)) {
    if (accepted->first_job != next_job_) return "jobs were accepted out of order";
  } else if (auto* started = std::get_if<records::Started>(&record)) {
    if (started->incarnation <= incarnation_)
      return "an incarnation does not follow the one before";
    if (started->first_epoch != Epoch{} && started->first_epoch < next_epoch_)
      return "an incarnation begins with an epoch that was given out before";
  } else if (auto* done = std::get_if<records::Done>(&record)) {
    for (const auto& run : done->runs)
      if (run.first.value + run.count > next_job_.value)
        return "a job is done that was never accepted";
  } else if (auto* carried = std::get_if<records::Carried>(&record)) {
    if (carried->job >= next_job_) return "a job is carried on that was never accepted";
    if (is_end(state_of(carried->job)) && state_of(carried->job) != JobState::dead)
      return "a job is carried on that has ended";
    if (find(carried->job) && !agree(*carried, this->carried(carried->job)))
      return "a job that is carried on differs from what the journal says";
  } else if (auto* kept = std::get_if<records::Kept>(&record)) {
    if (state_of(kept->job) != JobState::done) return "a result is kept of a job that is not done";
    if (result_of(kept->job) && !(*kept == this->kept(kept->job)))
      return "a result that is kept differs from what the journal says";
  } else if (auto* checkpoint = std::get_if<records::Checkpoint>(&record)) {
    if (begun_ && !agree(*checkpoint, this->checkpoint()))
      return "a checkpoint differs from what the journal says";
  }
  return std::nullopt;
}

records::Checkpoint State::checkpoint() const {
  records::Checkpoint record{broker_, incarnation_, next_job_, next_epoch_, counts_};
  record.done = done_.runs();
  record.cancelled = cancelled_.runs();
  record.expired = expired_.runs();
  record.producers = producers_.all();
  for (const Queue& queue : queues_)
    if (!(queue.settings == records::QueueSettings{}))
      record.queues.push_back({queue.name, queue.settings});
  std::sort(record.queues.begin(), record.queues.end(),
            [](const auto& x, const auto& y) { return x.queue < y.queue; });
  for (const auto& [time, name] : key_order_) {
    auto key = keys_.find(name);
    if (key != keys_.end() && key->second.time == time)
      record.keys.push_back({name, key->second.job, time});
  }
  auto& totals = record.totals.emplace();
  for (const Queue& queue : queues_)
    if (queue.done > 0) totals.push_back({queue.name, queue.done});
  std::sort(totals.begin(), totals.end(),
            [](const auto& x, const auto& y) { return x.queue < y.queue; });
  return record;
}

records::Carried State::carried(JobId id) const {
  const Job& job = *find(id);
  records::Carried record;
  record.job = id;
  if (const Uuid* producer = producers_.id_of(job.producer)) record.producer = *producer;
  record.queue = queues_[job.queue].name;
  record.state = job.state;
  record.report = job.report;
  record.max_attempts = job.max_attempts;
  record.priority = job.priority;
  record.attempts = job.attempts;
  record.failures = job.failures;
  record.crashes = job.crashes;
  record.due = due_of(id).value_or(WallMs{});
  record.expires = expiry_of(id).value_or(WallMs{});
  if (const LastLease* last = last_lease_of(id)) {
    record.epoch = last->epoch;
    record.worker = last->worker;
  }
  if (const LeaseInfo* lease = lease_of(id)) {
    record.epoch = lease->epoch;
    record.worker = workers_[lease->worker].id;
  }
  if (const auto* history = history_of(id)) record.history = *history;
  return record;
}

records::Kept State::kept(JobId id) const {
  const KeptResult& result = *result_of(id);
  return {id, result.attempts, result.time, result.bytes};
}

JobState State::state_of(JobId id) const {
  if (const Job* job = jobs_.find(id)) return job->state;
  if (done_.contains(id)) return JobState::done;
  if (cancelled_.contains(id)) return JobState::cancelled;
  return expired_.contains(id) ? JobState::expired : JobState::unknown;
}

const LeaseInfo* State::lease_of(JobId job) const {
  auto found = leases_.find(job);
  return found == leases_.end() ? nullptr : &found->second;
}

const LastLease* State::last_lease_of(JobId job) const {
  auto found = last_leases_.find(job);
  return found == last_leases_.end() ? nullptr : &found->second;
}

bool State::won(Lease lease) const {
  const Winner& winner = winners_[lease.job.value % kWinners];
  return winner.job == lease.job && winner.epoch == lease.epoch;
}

const std::vector<Trouble>* State::history_of(JobId job) const {
  auto found = troubles_.find(job);
  return found == troubles_.end() ? nullptr : &found->second;
}

const Trouble* State::trouble_of(JobId job) const {
  const auto* history = history_of(job);
  return history ? &history->back() : nullptr;
}

std::optional<WallMs> State::due_of(JobId job) const {
  auto found = due_of_.find(job);
  return found == due_of_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<WallMs> State::expiry_of(JobId job) const {
  auto found = expiry_of_.find(job);
  return found == expiry_of_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<JobId> State::job_of_key(std::string_view queue, std::string_view key,
                                       WallMs now) const {
  auto found = keys_.find(scoped(queue, key));
  if (found == keys_.end() || found->second.time + keeping_.key_window < now) return std::nullopt;
  return found->second.job;
}

const KeptResult* State::result_of(JobId job) const {
  auto found = results_.find(job);
  return found == results_.end() ? nullptr : &found->second;
}

std::vector<JobRange> State::surplus_results(WallMs now) const {
  IdSet surplus;
  size_t count = results_.size(), bytes = result_bytes_;
  auto let_go = [&](JobId job) {
    if (surplus.contains(job)) return;
    surplus.insert(job);
    --count;
    bytes -= result_of(job)->bytes.size();
  };
  for (const auto& [time, job] : result_order_) {
    if (time + keeping_.result_ttl > now) break;
    let_go(job);
  }
  // By number and not by time: the clock may have been set back.
  for (const auto& [job, result] : results_) {
    if (count <= keeping_.results && bytes <= keeping_.result_bytes) break;
    let_go(job);
  }
  return surplus.runs();
}

QueueIndex State::queue_index(std::string_view name) {
  auto [found, is_new] = queue_names_.try_emplace(std::string(name), QueueIndex(queues_.size()));
  if (is_new) queues_.push_back({std::string(name)});
  return found->second;
}

bool State::has_room_for_queue(std::string_view name) const {
  return queues_.size() < protocol::kMaxQueues || queue_names_.contains(std::string(name));
}

WorkerIndex State::worker_index(const Uuid& id) {
  auto found = worker_names_.find(id);
  if (found != worker_names_.end()) return found->second;
  WorkerIndex index = 0;
  while (index < workers_.size() && workers_[index].used) ++index;
  if (index == workers_.size()) workers_.emplace_back();
  workers_[index] = {id, 0, false, true};
  worker_names_.emplace(id, index);
  return index;
}

void State::free_if_unused(WorkerIndex index) {
  Worker& worker = workers_[index];
  if (worker.leases > 0 || worker.pinned) return;
  worker_names_.erase(worker.id);
  worker.used = false;
}

WorkerIndex State::pin_worker(const Uuid& id) {
  WorkerIndex index = worker_index(id);
  workers_[index].pinned = true;
  return index;
}

void State::unpin_worker(WorkerIndex index) {
  workers_[index].pinned = false;
  free_if_unused(index);
}

void State::extend(JobId job, Mono now) {
  auto found = leases_.find(job);
  if (found != leases_.end()) found.value().since = now;
}

void State::set_lease_time(JobId job, Millis lasts) {
  auto found = leases_.find(job);
  if (found != leases_.end())
    found.value().lasts_ms = uint32_t(std::min<int64_t>(lasts.count(), UINT32_MAX));
}

uint64_t State::ready_jobs() const {
  uint64_t jobs = 0;
  for (const Queue& queue : queues_) jobs += queue.ready.size();
  return jobs;
}
uint64_t State::retry_wait_jobs() const {
  uint64_t jobs = 0;
  for (const Queue& queue : queues_) jobs += queue.retry_wait;
  return jobs;
}
uint64_t State::scheduled_jobs() const { return due_.size() - retry_wait_jobs(); }

uint64_t State::memory_bytes() const {
  constexpr uint64_t kSlot = sizeof(Job) + 13, kTimer = 112, kLease = 48, kHistory = 256;
  return jobs_.size() * kSlot + (due_.size() + expiry_of_.size()) * kTimer +
         leases_.size() * kLease + troubles_.size() * kHistory;
}

void State::keep_result(JobId job, KeptResult result) {
  result_bytes_ += result.bytes.size();
  result_order_.insert({result.time, job});
  results_.insert_or_assign(job, std::move(result));
}

void State::let_result_go(JobId job) {
  auto found = results_.find(job);
  if (found == results_.end()) return;
  result_bytes_ -= found->second.bytes.size();
  result_order_.erase({found->second.time, job});
  results_.erase(found);
  retire({job, 1});
}

void State::keep_key(std::string_view queue, std::string_view key, JobId job, WallMs time) {
  std::string name = scoped(queue, key);
  key_bytes_ += name.size() + kKeyCost;
  keys_[name] = {job, time};
  key_order_.emplace_back(time, std::move(name));
  auto too_much = [&] {
    return key_bytes_ > keeping_.key_bytes || key_order_.front().first + keeping_.key_window < time;
  };
  while (!key_order_.empty() && too_much()) {
    auto& [oldest_time, oldest] = key_order_.front();
    key_bytes_ -= oldest.size() + kKeyCost;
    auto found = keys_.find(oldest);
    if (found != keys_.end() && found->second.time == oldest_time) keys_.erase(found);
    key_order_.pop_front();
  }
}

}  // namespace millrace::core
