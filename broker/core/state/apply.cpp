// What each record changes: the only code that changes durable state, live and in recovery.
#include <algorithm>

#include "broker/core/state/state.h"
#include "common/base/check.h"

namespace millrace::core {
namespace {

template <typename Visit>
void for_each_id(const std::vector<JobRange>& runs, Visit&& visit) {
  for (const JobRange& run : runs)
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) visit(JobId{id});
}

constexpr std::string_view kVanished = "its worker vanished", kRanOut = "its lease ran out";

uint64_t record_bytes(const std::vector<AttemptFailure>& attempts) {
  constexpr uint64_t kNumbers = 24;
  uint64_t bytes = attempts.size() * kNumbers;
  for (const AttemptFailure& attempt : attempts)
    bytes += attempt.worker.size() + attempt.error.size();
  return bytes;
}

uint64_t memory_bytes(const std::vector<AttemptFailure>& attempts) {
  if (attempts.empty()) return 0;
  uint64_t bytes = allocation_bytes(attempts.capacity() * sizeof(AttemptFailure));
  for (const AttemptFailure& attempt : attempts)
    bytes += string_bytes(attempt.worker) + string_bytes(attempt.error);
  return bytes;
}

}  // namespace

void State::apply(const Record& record, Mono now) {
  std::visit([&](const auto& r) { on(r, now); }, record);
  begun_ = true;
  shrink_if_sparse(last_leases_);
  shrink_if_sparse(failures_);
}

void State::on(const records::Checkpoint& record, Mono now) {
  if (record.totals) set_totals(*record.totals);
  if (begun_) return;  // the rest repeats what is known: check() compares it in recovery
  broker_ = record.broker;
  incarnation_ = record.incarnation;
  next_job_ = record.next_job;
  next_epoch_ = record.next_epoch;
  history_start_ = std::max(record.history_start, JobId{1});
  MILLRACE_CHECK(history_start_ <= std::max(next_job_, JobId{1}));
  counts_ = record.counts;
  for (const auto& absence : record.absent) absent_[absence.worker] = absence.periods;
  for (const auto& run : record.done) done_.insert(run);
  for (const auto& run : record.cancelled) cancelled_.insert(run);
  for (const auto& run : record.expired) expired_.insert(run);
  std::vector<const records::ProducerState*> producers;
  for (const auto& producer : record.producers) producers.push_back(&producer);
  std::stable_sort(producers.begin(), producers.end(),
                   [](const auto* a, const auto* b) { return a->seen < b->seen; });
  for (const auto* producer : producers) producers_.restore(*producer);
  for (const auto& queue : record.queues) on(queue, now);
  for (const auto& key : record.keys) {
    auto split = key.key.find('\0');
    keep_key(key.key.substr(0, split), key.key.substr(split + 1), key.job, key.time);
  }
}

void State::on(const records::Started& record, Mono) {
  MILLRACE_CHECK(record.incarnation > incarnation_);
  incarnation_ = record.incarnation;
  first_epoch_ = record.first_epoch != Epoch{}
                     ? record.first_epoch
                     : records::first_epoch_of_version_1(record.incarnation);
  MILLRACE_CHECK(first_epoch_ != Epoch{});
  next_epoch_ = first_epoch_;
}

// A state that began with version 1 does not know what was done before; the next Checkpoint says
// it.
void State::set_totals(const std::vector<records::QueueTotal>& totals) {
  for (Queue& queue : queues_) queue.done = 0;
  for (const auto& total : totals) queues_[queue_index(total.queue)].done = total.done;
}

void State::on(const records::Accepted& record, Mono) {
  MILLRACE_CHECK(record.first_job == next_job_);
  MILLRACE_CHECK(record.keys.empty() || record.keys.size() == record.payloads.size());
  QueueIndex queue = queue_index(record.queue);
  producers_.accept(record);
  const Job job{.producer = producers_.index_of(record.producer),
                .queue = queue,
                .report = record.report,
                .expires = record.expires != WallMs{},
                .max_attempts = record.max_attempts,
                .priority = record.priority};
  JobRange range{next_job_, record.payloads.size()};
  next_job_.value += range.count;
  producers_.add_live(job.producer, range.count);
  counts_.accepted += range.count;
  for (uint64_t i = 0; i < range.count; ++i) {
    JobId id{range.first.value + i};
    Job& live = jobs_.insert(id, job);
    if (job.expires) {
      expiry_of_.insert(id, record.expires);
      expiries_.insert({record.expires, id});
    }
    if (record.due != WallMs{}) wait_until(id, live, record.due, JobState::scheduled);
    if (!record.keys.empty()) keep_key(record.queue, record.keys[i], id, record.time);
  }
  if (record.due == WallMs{}) change(queue).ready.insert(range, job.rank());
}

void State::on(const records::Matched& record, Mono) { producers_.match(record); }

void State::on(const records::Leased& record, Mono now) {
  WorkerIndex worker = worker_index(record.worker);
  uint64_t epoch = record.first_epoch.value;
  for (const JobRange& run : record.runs) {
    counts_.attempts += run.count;
    JobRange taken{};  // consecutive ready jobs of one queue and rank leave together
    const Job* like = nullptr;
    auto flush = [&] {
      if (taken.count > 0) queues_[like->queue].ready.take(taken, like->rank());
      taken.count = 0;
    };
    const uint64_t first_epoch = epoch;
    epoch += run.count;
    jobs_.for_each_in(run, [&](JobId job_id, Job& found) {
      const uint64_t id = job_id.value, its_epoch = first_epoch + (id - run.first.value);
      Job* job = &found;
      if (job->state == JobState::ready && job->suspect) {
        leave_suspects({id}, *job);
      } else if (job->state == JobState::ready) {
        if (taken.count > 0 && !(job->queue == like->queue && job->rank() == like->rank() &&
                                 taken.first.value + taken.count == id))
          flush();
        if (taken.count++ == 0) taken.first = {id}, like = job;
      } else if (job->state != JobState::leased) {
        leave({id}, *job);
        if (job->state == JobState::dead) producers_.add_live(job->producer, 1);
      }
      if (job->expires) expiries_.erase({*expiry_of_.find({id}), {id}});
      ++workers_[worker].leases;  // first: what is dropped may be the last of this worker
      workers_[worker].suspects += job->suspect;
      // A repaired journal may lack how the lease before has ended.
      if (job->state == JobState::leased) drop_lease({id}, *job);
      job->state = JobState::leased;
      if (job->attempts < UINT16_MAX) ++job->attempts;
      if (!last_leases_.empty()) last_leases_.erase({id});
      leases_.insert({id}, {{its_epoch}, worker, 0, now});
      ++queues_[job->queue].leased;
    });
    flush();
  }
  MILLRACE_CHECK(epoch >= record.first_epoch.value);
  next_epoch_ = std::max(next_epoch_, Epoch{epoch});
  free_if_unused(worker);
}

void State::on(const records::Done& record, Mono) {
  // Results come in the order of the runs, and only for jobs that asked.
  auto result = record.results.begin();
  auto skip_to = [&](JobId end, JobId first) {
    while (result != record.results.end() && result->job >= first && result->job < end) ++result;
  };
  for (const records::DoneRun& run : record.runs) {
    counts_.done += run.count;
    for (uint64_t i = run.count - std::min<uint64_t>(run.count, kWinners); i < run.count; ++i) {
      JobId id{run.first.value + i};
      winners_[id.value % kWinners] = {id, {run.first_epoch.value + i}};
    }
    jobs_.for_each_in({run.first, run.count}, [&](JobId id, Job& job) {
      skip_to(id, run.first);
      const bool has_result = result != record.results.end() && result->job == id;
      const std::string_view bytes = has_result ? result++->bytes : std::string_view();
      if (job.report == Report::result) {
        settled_.push_back({id, bytes.size()});
        retain_result(id, {job.attempts, record.time, std::string(bytes)});
      } else {
        retire({id, 1});
      }
      if (record.totals.empty()) ++queues_[job.queue].done;
      leave(id, job);
      remove(id, job);
    });
    skip_to({run.first.value + run.count}, run.first);
    done_.insert({run.first, run.count});
  }
  for (const auto& total : record.totals) queues_[queue_index(total.queue)].done += total.done;
}

void State::end(JobId id, Job& job) {
  retire({id, 1});
  leave(id, job);
  remove(id, job);
}

void State::on(const records::Cancelled& record, Mono) {
  for (const JobRange& run : record.runs) {
    counts_.cancelled += run.count;
    cancelled_.insert(run);
    jobs_.for_each_in(run, [&](JobId id, Job& job) { end(id, job); });
  }
}

void State::on(const records::Expired& record, Mono) {
  for (const JobRange& run : record.runs) {
    counts_.expired += run.count;
    expired_.insert(run);
    jobs_.for_each_in(run, [&](JobId id, Job& job) { end(id, job); });
  }
}

void State::on(const records::Requeued& record, Mono) {
  for (const JobRange& run : record.runs) {
    counts_.requeued += run.count;
    jobs_.for_each_in(run, [&](JobId id, Job& job) {
      leave(id, job);
      if (job.state == JobState::dead) producers_.add_live(job.producer, 1);
      job.failures = job.crashes = 0;
      job.suspect = false;
      make_ready(id, job);
    });
  }
}

void State::on(const records::HistoryTrimmed& record, Mono) {
  for (IdSet* ended : {&done_, &cancelled_, &expired_}) ended->erase({{0}, record.below.value});
  history_start_ = std::max(history_start_, record.below);
}

void State::on(const records::Absent& record, Mono) {
  for (const auto& absence : record.workers) {
    if (absence.periods > 0) {
      absent_[absence.worker] = absence.periods;
    } else {
      absent_.erase(absence.worker);
    }
  }
}

void State::on(const records::QueueSet& record, Mono) {
  Queue& queue = change(queue_index(record.queue));
  if (queue.has_settings()) setting_bytes_ -= setting_bytes(queue.name);
  queue.settings = record.settings;
  if (queue.has_settings()) setting_bytes_ += setting_bytes(queue.name);
  if (queue.ready.order() == record.settings.order) return;
  const std::vector<JobRange> runs = queue.ready.runs();
  for_each_id(runs, [&](JobId id) { queue.ready.erase({id, 1}, jobs_.find(id)->rank()); });
  queue.ready.set_order(record.settings.order);
  for_each_id(runs, [&](JobId id) { queue.ready.insert({id, 1}, jobs_.find(id)->rank()); });
}

void State::on(const records::Relocated& record, Mono now) {
  if (jobs_.find(record.job)) return;
  const bool known = record.producer != Uuid{} && producers_.knows(record.producer);
  const Job job{.producer = known ? producers_.index_of(record.producer) : ProducerIndex{0},
                .queue = queue_index(record.queue),
                .attempts = record.attempts,
                .state = record.state,
                .report = record.report,
                .expires = record.expires != WallMs{},
                .max_attempts = record.max_attempts,
                .failures = record.failures,
                .crashes = record.crashes,
                .priority = record.priority};
  const JobId id = record.job;
  Job& live = jobs_.insert(id, job);
  producers_.add_live(job.producer, 1);
  if (!record.history.empty()) {
    failures_[id] = record.history;
    add_attempts(failures_[id]);
  }
  live.suspect = is_suspect(id, live);
  if (job.expires) expiry_of_.insert(id, record.expires);
  if (job.expires && record.state != JobState::leased) expiries_.insert({record.expires, id});
  if (record.epoch != Epoch{} && record.state != JobState::leased)
    last_leases_[id] = {record.epoch, record.worker};
  switch (record.state) {
    case JobState::leased: {
      const WorkerIndex worker = worker_index(record.worker);
      leases_.insert(id, {record.epoch, worker, 0, now});
      ++workers_[worker].leases;
      workers_[worker].suspects += live.suspect;
      ++queues_[job.queue].leased;
      break;
    }
    case JobState::dead:
      mark_dead(id, live);
      break;
    case JobState::ready:
      make_ready(id, live);
      break;
    default:
      wait_until(id, live, record.due, record.state);
  }
}

void State::on(const records::ResultRetained& record, Mono) {
  if (!result_of(record.job))
    retain_result(record.job, {record.attempts, record.time, std::string(record.result)});
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
  note(record.lease.job, *job, record.worker, record.error, record.time);
  if (is_dead) {
    mark_dead(record.lease.job, *job);
  } else {
    wait_until(record.lease.job, *job, record.due, JobState::retry_wait);
  }
}

void State::on(const records::Returned& record, Mono) {
  bool is_crash = record.reason == records::ReturnReason::lost ||
                  record.reason == records::ReturnReason::expired;
  for (const auto& entry : record.jobs) {
    if (is_crash) ++counts_.crashes;
    if (entry.dead) ++counts_.dead;
    Job* job = jobs_.find(entry.lease.job);
    if (!job) continue;
    end_lease(entry.lease.job, *job, entry.lease.epoch);
    if (is_crash) {
      if (job->crashes < UINT8_MAX) ++job->crashes;
      note(entry.lease.job, *job, record.worker,
           record.reason == records::ReturnReason::lost ? kVanished : kRanOut, record.time);
    } else if (record.reason == records::ReturnReason::never_arrived) {
      if (job->attempts > 0) --job->attempts;  // it never began
    }
    if (entry.dead) {
      mark_dead(entry.lease.job, *job);
    } else {
      make_ready(entry.lease.job, *job);
    }
  }
}

void State::on(const records::Due& record, Mono) {
  for (const JobRange& run : record.runs) {
    jobs_.for_each_in(run, [&](JobId id, Job& job) {
      if (job.state != JobState::scheduled && job.state != JobState::retry_wait) return;
      leave_waiting(id, job);
      make_ready(id, job);
    });
  }
}

void State::on(const records::Collected& record, Mono) {
  for (const JobRange& run : record.runs) {
    auto next = results_.lower_bound(run.first);
    while (next != results_.end() && next->first.value - run.first.value < run.count)
      evict_result(next++->first);
  }
}

void State::on(const records::ProducerGone& record, Mono) { producers_.forget(record.producer); }

void State::drop_lease(JobId id, const Job& job) {
  const LeaseInfo* lease = leases_.find(id);
  MILLRACE_CHECK(lease);
  const WorkerIndex index = lease->worker;
  leases_.erase(id);
  Worker& worker = workers_[index];
  Queue& queue = change(job.queue);
  MILLRACE_CHECK(worker.used && worker.leases > 0 && worker.suspects >= uint64_t(job.suspect));
  MILLRACE_CHECK(worker.suspects <= worker.leases && queue.leased > 0);
  --worker.leases;
  worker.suspects -= job.suspect;
  --queue.leased;
  free_if_unused(index);
}

void State::end_lease(JobId id, Job& job, Epoch epoch) {
  Uuid worker;
  if (const LeaseInfo* lease = lease_of(id)) {
    worker = workers_[lease->worker].id;
    drop_lease(id, job);
  } else {  // a repaired journal may lack how it was leased
    leave(id, job);
    if (job.state == JobState::dead) producers_.add_live(job.producer, 1);
  }
  if (job.expires) expiries_.insert({*expiry_of_.find(id), id});
  last_leases_[id] = {epoch, worker};
}

// Takes a job out of the set that its state puts it in.
void State::leave(JobId id, Job& job) {
  switch (job.state) {
    case JobState::ready:
      if (job.suspect) {
        leave_suspects(id, job);
      } else {
        queues_[job.queue].ready.erase({id, 1}, job.rank());
      }
      break;
    case JobState::leased:
      drop_lease(id, job);
      break;
    case JobState::scheduled:
    case JobState::retry_wait:
      leave_waiting(id, job);
      break;
    case JobState::dead:
      MILLRACE_CHECK(dead_.contains(id) && queues_[job.queue].dead > 0);
      dead_.erase({id, 1});
      --queues_[job.queue].dead;
      break;
    default:
      break;
  }
}

void State::leave_waiting(JobId id, Job& job) {
  const WallMs* due = due_of_.find(id);
  MILLRACE_CHECK(due);
  MILLRACE_CHECK(due_.erase({*due, id}) == 1);
  due_of_.erase(id);
  Queue& queue = queues_[job.queue];
  if (job.state == JobState::scheduled) {
    MILLRACE_CHECK(queue.scheduled > 0);
    --queue.scheduled;
  } else {
    MILLRACE_CHECK(job.state == JobState::retry_wait && queue.retry_wait > 0 && retry_wait_ > 0);
    --queue.retry_wait;
    --retry_wait_;
  }
}

void State::remove(JobId id, Job& job) {
  if (job.state != JobState::dead) producers_.remove_live(job.producer);
  if (!last_leases_.empty()) last_leases_.erase(id);
  if (auto history = failures_.find(id); history != failures_.end()) {
    subtract_attempts(history->second);
    failures_.erase(history);
  }
  if (job.expires) {
    expiries_.erase({*expiry_of_.find(id), id});
    expiry_of_.erase(id);
  }
  jobs_.erase(id);
}

void State::mark_dead(JobId id, Job& job) {
  job.state = JobState::dead;
  producers_.remove_live(job.producer);
  ++queues_[job.queue].dead;
  dead_.insert(id);
  last_leases_.erase(id);
  if (!job.expires) return;  // the dead wait for people, not for the clock
  job.expires = false;
  expiries_.erase({*expiry_of_.find(id), id});
  expiry_of_.erase(id);
}

void State::wait_until(JobId id, Job& job, WallMs due, JobState state) {
  job.state = state;
  Queue& queue = queues_[job.queue];
  if (state == JobState::scheduled) {
    ++queue.scheduled;
  } else {
    ++queue.retry_wait;
    ++retry_wait_;
  }
  MILLRACE_CHECK(due_.insert({due, id}).second);
  due_of_.insert(id, due);
}

void State::make_ready(JobId id, Job& job) {
  job.state = JobState::ready;
  Queue& queue = change(job.queue);
  if (job.suspect) {
    IdSet& suspects = suspects_[job.queue];
    suspect_bytes_ -= suspects.memory_bytes();
    suspects.insert(id);
    suspect_bytes_ += suspects.memory_bytes();
    ++queue.suspects;
  } else {
    queue.ready.insert({id, 1}, job.rank());
  }
}

void State::leave_suspects(JobId id, const Job& job) {
  auto suspects = suspects_.find(job.queue);
  MILLRACE_CHECK(suspects != suspects_.end() && suspects->second.contains(id));
  MILLRACE_CHECK(queues_[job.queue].suspects == suspects->second.size());
  suspect_bytes_ -= suspects->second.memory_bytes();
  suspects->second.erase({id, 1});
  suspect_bytes_ += suspects->second.memory_bytes();
  if (suspects->second.empty()) suspects_.erase(suspects);
  --queues_[job.queue].suspects;
}

// From what is written down of it anyway: its crashes, and the words of the last one.
bool State::is_suspect(JobId id, const Job& job) const {
  const AttemptFailure* last = last_failure_of(id);
  return job.crashes > 0 && last && (last->error == kVanished || last->error == kRanOut);
}

void State::note(JobId id, Job& job, std::string_view worker, std::string_view error, WallMs time) {
  auto& history = failures_[id];
  subtract_attempts(history);
  if (history.size() == kMaxHistory) history.erase(history.begin());
  history.push_back({job.attempts, std::string(worker), std::string(error), time});
  add_attempts(history);
  job.suspect = is_suspect(id, job);
}

void State::add_attempts(const std::vector<AttemptFailure>& attempts) {
  history_bytes_ += record_bytes(attempts);
  attempt_bytes_ += core::memory_bytes(attempts);
  attempt_count_ += attempts.size();
}

void State::subtract_attempts(const std::vector<AttemptFailure>& attempts) {
  MILLRACE_CHECK(attempt_count_ >= attempts.size() && history_bytes_ >= record_bytes(attempts));
  MILLRACE_CHECK(attempt_bytes_ >= core::memory_bytes(attempts));
  history_bytes_ -= record_bytes(attempts);
  attempt_bytes_ -= core::memory_bytes(attempts);
  attempt_count_ -= attempts.size();
}

void State::retire(JobRange jobs) {
  if (!retired_.empty() &&
      retired_.back().first.value + retired_.back().count == jobs.first.value) {
    retired_.back().count += jobs.count;
  } else {
    retired_.push_back(jobs);
  }
}

}  // namespace millrace::core
