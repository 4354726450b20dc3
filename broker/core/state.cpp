#include "broker/core/state.h"

#include <algorithm>

#include "common/check.h"

namespace millrace::core {
namespace {

constexpr size_t kMaxOutcomes = 65536;
constexpr size_t kMaxOutcomeBytes = 64 << 20;

}  // namespace

void State::apply(const Record& record, Mono now) {
  std::visit([&](const auto& r) { on(r, now); }, record);
  begun_ = true;
}

std::optional<std::string> State::check(const Record& record) const {
  if (auto* accepted = std::get_if<records::Accepted>(&record)) {
    if (accepted->first_job != next_job_) return "jobs were accepted out of order";
  } else if (auto* started = std::get_if<records::Started>(&record)) {
    if (started->incarnation <= incarnation_) return "an incarnation does not follow the one before";
  } else if (auto* done = std::get_if<records::Done>(&record)) {
    for (const auto& run : done->runs)
      if (run.first.value + run.count > next_job_.value) return "a job is done that was never accepted";
  } else if (auto* checkpoint = std::get_if<records::Checkpoint>(&record)) {
    if (begun_ && !(*checkpoint == this->checkpoint())) return "a checkpoint differs from what the journal says";
  }
  return std::nullopt;
}

records::Checkpoint State::checkpoint() const {
  return {broker_, incarnation_, next_job_, next_epoch_, counts_, done_.runs(), producers_.all()};
}

void State::on(const records::Checkpoint& record, Mono) {
  if (begun_) return;  // it repeats what is known: check() compares them in recovery
  broker_ = record.broker;
  incarnation_ = record.incarnation;
  next_job_ = record.next_job;
  next_epoch_ = record.next_epoch;
  counts_ = record.counts;
  for (const auto& run : record.done) done_.insert(run);
  for (const auto& producer : record.producers) producers_.restore(producer);
}

void State::on(const records::Started& record, Mono) {
  incarnation_ = record.incarnation;
  next_epoch_ = Epoch::first_of(record.incarnation);
}

void State::on(const records::Accepted& record, Mono) {
  QueueIndex queue = queue_index(record.queue);
  producers_.accept(record);
  Job job{producers_.index_of(record.producer), 0, queue, JobState::ready, record.report, record.max_attempts};
  JobRange range{next_job_, record.payloads.size()};
  for (uint64_t i = 0; i < range.count; ++i) jobs_.insert({range.first.value + i}, job);
  queues_[queue].ready.insert(range);
  next_job_.value += range.count;
  counts_.accepted += range.count;
}

void State::on(const records::Leased& record, Mono now) {
  WorkerIndex worker = worker_index(record.worker);
  uint64_t epoch = record.first_epoch.value;
  for (const JobRange& run : record.runs) {
    counts_.attempts += run.count;
    bool taken = false;
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id, ++epoch) {
      Job* job = jobs_.find({id});
      if (!job) continue;
      // A run lies within one queue, though it may begin with elders.
      if (!std::exchange(taken, true)) queues_[job->queue].ready.erase(run);
      if (job->state == JobState::retry_wait) leave_waiting({id}, *job);
      job->state = JobState::leased;
      ++job->attempts;
      if (!last_epochs_.empty()) last_epochs_.erase({id});
      leases_[{id}] = {{epoch}, worker, now};
      ++workers_[worker].leases;
      ++queues_[job->queue].leased;
    }
  }
  next_epoch_ = std::max(next_epoch_, Epoch{epoch});
  free_if_unused(worker);
}

void State::on(const records::Done& record, Mono) {
  // Results come in the order of the runs, and only for jobs that asked.
  auto result = record.results.begin();
  for (const records::DoneRun& run : record.runs) {
    counts_.done += run.count;
    for (uint64_t i = 0; i < run.count; ++i) {
      JobId id{run.first.value + i};
      const Job* job = jobs_.find(id);
      bool has_result = result != record.results.end() && result->job == id;
      if (job && job->report == Report::result)
        keep_outcome(id, *job, has_result ? result->bytes : std::string_view());
      if (has_result) ++result;
      finish(id, {run.first_epoch.value + i});
    }
    done_.insert({run.first, run.count});
    if (!retired_.empty() && retired_.back().first.value + retired_.back().count == run.first.value) {
      retired_.back().count += run.count;
    } else {
      retired_.push_back({run.first, run.count});
    }
  }
}

void State::on(const records::Failed& record, Mono) {
  ++(record.kind == protocol::FailKind::crash ? counts_.crashes : counts_.failures);
  Job* job = jobs_.find(record.lease.job);
  bool is_dead = record.due == WallMs{};
  if (is_dead) ++counts_.dead;
  if (!job) return;
  uint8_t& charged = record.kind == protocol::FailKind::crash ? job->crashes : job->failures;
  if (charged < UINT8_MAX) ++charged;
  end_lease(record.lease.job, *job, record.lease.epoch);
  troubles_[record.lease.job] = {std::string(record.worker), std::string(record.error), record.time};
  if (is_dead) {
    bury(record.lease.job, *job);
  } else {
    wait_until(record.lease.job, *job, record.due);
  }
}

void State::on(const records::Returned& record, Mono) {
  bool is_crash = record.reason == records::ReturnReason::lost || record.reason == records::ReturnReason::expired;
  for (const auto& entry : record.jobs) {
    if (is_crash) ++counts_.crashes;
    if (entry.dead) ++counts_.dead;
    Job* job = jobs_.find(entry.lease.job);
    if (!job) continue;
    end_lease(entry.lease.job, *job, entry.lease.epoch);
    if (is_crash) {
      if (job->crashes < UINT8_MAX) ++job->crashes;
      const char* why = record.reason == records::ReturnReason::lost ? "its worker vanished" : "its lease ran out";
      troubles_[entry.lease.job] = {std::string(record.worker), why, record.time};
    } else if (record.reason == records::ReturnReason::never_arrived) {
      --job->attempts;  // it never began
    }
    if (entry.dead) {
      bury(entry.lease.job, *job);
    } else {
      make_ready(entry.lease.job, *job);
    }
  }
}

void State::on(const records::Due& record, Mono) {
  for (const JobRange& run : record.runs) {
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) {
      Job* job = jobs_.find({id});
      if (!job) continue;
      leave_waiting({id}, *job);
      make_ready({id}, *job);
    }
  }
}

void State::on(const records::Collected& record, Mono) {
  for (const JobRange& run : record.runs) {
    auto first = outcomes_.lower_bound(run.first);
    auto last = first;
    for (; last != outcomes_.end() && last->first.value - run.first.value < run.count; ++last)
      outcome_bytes_ -= last->second.result.size();
    outcomes_.erase(first, last);
  }
}

void State::on(const records::ProducerGone& record, Mono) { producers_.forget(record.producer); }

JobState State::state_of(JobId id) const {
  if (const Job* job = jobs_.find(id)) return job->state;
  return done_.contains(id) ? JobState::done : JobState::unknown;
}

const LeaseInfo* State::lease_of(JobId job) const {
  auto found = leases_.find(job);
  return found == leases_.end() ? nullptr : &found->second;
}

Epoch State::last_epoch_of(JobId job) const {
  auto found = last_epochs_.find(job);
  return found == last_epochs_.end() ? Epoch{} : found->second;
}

bool State::won(Lease lease) const {
  const Winner& winner = winners_[lease.job.value % kWinners];
  return winner.job == lease.job && winner.epoch == lease.epoch;
}

const Trouble* State::trouble_of(JobId job) const {
  auto found = troubles_.find(job);
  return found == troubles_.end() ? nullptr : &found->second;
}

const KeptOutcome* State::outcome_of(JobId job) const {
  auto found = outcomes_.find(job);
  return found == outcomes_.end() ? nullptr : &found->second;
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

uint64_t State::ready_jobs() const {
  uint64_t jobs = 0;
  for (const Queue& queue : queues_) jobs += queue.ready.size();
  return jobs;
}

void State::end_lease(JobId id, Job& job, Epoch epoch) {
  auto found = leases_.find(id);
  if (found != leases_.end()) {
    WorkerIndex worker = found->second.worker;
    leases_.erase(found);
    --workers_[worker].leases;
    --queues_[job.queue].leased;
    free_if_unused(worker);
  }
  last_epochs_[id] = epoch;
}

void State::leave_waiting(JobId id, Job& job) {
  auto found = due_of_.find(id);
  if (found == due_of_.end()) return;
  due_.erase({found->second, id});
  due_of_.erase(found);
  --queues_[job.queue].retry_wait;
}

// A job's end as done, from whichever state a current or late DONE found it in.
void State::finish(JobId id, Epoch epoch) {
  winners_[id.value % kWinners] = {id, epoch};
  Job* job = jobs_.find(id);
  if (!job) return;
  Queue& queue = queues_[job->queue];
  if (job->state == JobState::leased) {
    auto found = leases_.find(id);
    MILLRACE_CHECK(found != leases_.end());
    WorkerIndex worker = found->second.worker;
    leases_.erase(found);
    --workers_[worker].leases;
    --queue.leased;
    free_if_unused(worker);
  } else {
    if (job->state == JobState::ready) queue.ready.erase({id, 1});
    leave_waiting(id, *job);
    last_epochs_.erase(id);
  }
  if (job->failures > 0 || job->crashes > 0) troubles_.erase(id);
  ++queue.done;
  jobs_.erase(id);
}

void State::bury(JobId id, Job& job) {
  job.state = JobState::dead;
  ++queues_[job.queue].dead;
  dead_.insert(id);
  last_epochs_.erase(id);
}

void State::wait_until(JobId id, Job& job, WallMs due) {
  job.state = JobState::retry_wait;
  ++queues_[job.queue].retry_wait;
  due_.insert({due, id});
  due_of_[id] = due;
}

void State::make_ready(JobId id, Job& job) {
  job.state = JobState::ready;
  queues_[job.queue].ready.insert(id);
}

void State::keep_outcome(JobId id, const Job& job, std::string_view result) {
  outcomes_[id] = {JobState::done, job.attempts, std::string(result)};
  outcome_bytes_ += result.size();
  while (outcomes_.size() > kMaxOutcomes || outcome_bytes_ > kMaxOutcomeBytes) {
    auto oldest = outcomes_.begin();
    outcome_bytes_ -= oldest->second.result.size();
    outcomes_.erase(oldest);
  }
}

}  // namespace millrace::core
