#include "broker/core/state/state.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/protocol/queue_name.h"

namespace millrace::core {
namespace {

// Of a key: two copies of it, a node of the hash table, an entry of the order.
size_t key_cost(std::string_view name) {
  constexpr size_t kNodes = 136;
  return 2 * string_bytes(name) + kNodes;
}

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
  a.absent.clear(), b.absent.clear();  // likewise
  for (auto* each : {&a, &b}) each->history_start = std::max(each->history_start, JobId{1});
  return a == b;
}

bool agree(records::Relocated a, const records::Relocated& b) {
  a.payload = {};
  // Version 1 of the journal named the worker of a running lease only.
  if (a.state != protocol::JobState::leased && a.worker == Uuid{}) a.worker = b.worker;
  return a == b;
}

}  // namespace

namespace {

// What can be checked in a record by itself.
class FormChecker {
 public:
  using Problem = std::optional<std::string>;

  Problem operator()(const records::Accepted& r) const {
    if (!r.keys.empty() && r.keys.size() != r.payloads.size())
      return "a submission with keys does not have one for each job";
    if (auto problem = of_sequences(r.first_seq, r.payloads.size())) return problem;
    return of_queue(r.queue);
  }
  Problem operator()(const records::Matched& r) const { return of_sequences(r.seq, 1); }
  Problem operator()(const records::Relocated& r) const { return of_queue(r.queue); }
  Problem operator()(const records::QueueSet& r) const { return of_queue(r.queue); }
  Problem operator()(const records::Done& r) const { return of_queues(r.totals); }
  Problem operator()(const records::Checkpoint& r) const {
    for (const auto& producer : r.producers)
      for (const auto& run : producer.known)
        if (auto problem = of_sequences(run.first, run.count)) return problem;
    for (const auto& known : r.keys)
      if (auto problem = of_queue(std::string_view(known.key).substr(0, known.key.find('\0'))))
        return problem;
    auto problem = of_queues(r.queues);
    return !problem && r.totals ? of_queues(*r.totals) : problem;
  }
  template <typename Other>
  Problem operator()(const Other&) const {
    return std::nullopt;
  }

 private:
  // As the ports take them: what follows the last one is a number too.
  static Problem of_sequences(Seq first, uint64_t count) {
    if (first.value <= UINT64_MAX - count) return std::nullopt;
    return "a sequence is out of range";
  }
  static Problem of_queue(std::string_view name) {
    if (!protocol::stored_queue_name(name)) return "a queue name is not valid";
    return std::nullopt;
  }
  template <typename Named>
  static Problem of_queues(const std::vector<Named>& list) {
    for (const Named& each : list)
      if (auto problem = of_queue(each.queue)) return problem;
    return std::nullopt;
  }
};

// Checks the jobs and leases of a record against the state: each run in one step, however many jobs
// it names.
class Checker {
 public:
  explicit Checker(const State& state) : state_(state) {}
  using Problem = std::optional<std::string>;

  Problem operator()(const records::Accepted& r) const {
    if (r.first_job != state_.next_job()) return "jobs were accepted out of order";
    if (r.first_job.value + r.payloads.size() > kMaxNumber) return "a job number is out of range";
    return std::nullopt;
  }
  Problem operator()(const records::Started& r) const {
    if (r.incarnation <= state_.incarnation())
      return "an incarnation is not above the previous one";
    if (r.incarnation >= kMaxIncarnation) return "an incarnation is out of range";
    if (r.first_epoch == Epoch{} && r.incarnation >= records::kIncarnationsOfVersion1)
      return "an incarnation is above the maximum of version 1";
    const bool may_restart = state_.next_epoch() >= kHighEpoch && !state_.knows_epochs();
    if (r.first_epoch != Epoch{} && r.first_epoch < state_.next_epoch() && !may_restart)
      return "an incarnation begins with an epoch that was already used";
    return of_epoch(r.first_epoch, 0);
  }
  Problem operator()(const records::Leased& r) const {
    uint64_t jobs = 0;
    for (const JobRange& run : r.runs) {
      if (auto problem = of_run(run.first, run.count, "leased")) return problem;
      if (run.count > kMaxNumber - jobs) return "the number of leased jobs is out of range";
      jobs += run.count;
    }
    return of_epoch(r.first_epoch, jobs);
  }
  Problem operator()(const records::Done& r) const {
    uint64_t jobs = 0;
    for (const auto& run : r.runs) {
      if (auto problem = of_run(run.first, run.count, "done")) return problem;
      jobs += run.count;
    }
    for (const auto& total : r.totals) {
      if (total.done > jobs) return "the queues have more jobs done than the record";
      jobs -= total.done;
    }
    return std::nullopt;
  }
  Problem operator()(const records::Failed& r) const { return of_run(r.lease.job, 1, "failed"); }
  Problem operator()(const records::Returned& r) const {
    for (const auto& entry : r.jobs)
      if (auto problem = of_run(entry.lease.job, 1, "returned")) return problem;
    return std::nullopt;
  }
  Problem operator()(const records::Matched& r) const { return of_run(r.job, 1, "matched"); }
  Problem operator()(const records::Due& r) const { return of_runs(r.runs, "due"); }
  Problem operator()(const records::Collected& r) const { return of_runs(r.runs, "collected"); }
  Problem operator()(const records::Cancelled& r) const { return of_runs(r.runs, "cancelled"); }
  Problem operator()(const records::Expired& r) const { return of_runs(r.runs, "expired"); }
  Problem operator()(const records::Requeued& r) const { return of_runs(r.runs, "retried"); }
  Problem operator()(const records::HistoryTrimmed& r) const {
    if (r.below > state_.next_job()) return "the history is trimmed beyond the last job";
    return std::nullopt;
  }
  Problem operator()(const records::Relocated& r) const {
    if (r.job >= state_.next_job()) return "a relocated job was never accepted";
    const JobState is = state_.state_of(r.job);
    if (is_end(is) && is != JobState::dead && is != JobState::ended)
      return "a relocated job has ended";
    if (state_.find(r.job) && !agree(r, state_.relocated(r.job)))
      return "a relocated job differs from its earlier records";
    if (r.state == JobState::unknown || (is_end(r.state) && r.state != JobState::dead))
      return "a relocated job is in a terminal state";
    return of_epoch(r.epoch, 0);
  }
  Problem operator()(const records::ResultRetained& r) const {
    const JobState is = state_.state_of(r.job);
    if (is != JobState::done && is != JobState::ended)
      return "a retained result belongs to a job that is not done";
    if (state_.result_of(r.job) && !(r == state_.kept(r.job)))
      return "a retained result differs from its earlier record";
    return std::nullopt;
  }
  Problem operator()(const records::Checkpoint& r) const {
    if (state_.has_begun())
      return agree(r, state_.checkpoint())
                 ? std::nullopt
                 : Problem("a checkpoint differs from the records before it");
    if (r.incarnation >= kMaxIncarnation || r.next_job.value > kMaxNumber ||
        r.history_start > std::max(r.next_job, JobId{1}))
      return "a number in a checkpoint is out of range";
    for (const auto* runs : {&r.done, &r.cancelled, &r.expired})
      for (const JobRange& run : *runs)
        if (run.first.value + run.count > r.next_job.value)
          return "a checkpoint contains jobs that were never accepted";
    return of_epoch(r.next_epoch, 0);
  }
  template <typename Other>
  Problem operator()(const Other&) const {
    return std::nullopt;
  }

 private:
  static constexpr uint64_t kMaxNumber = uint64_t{1} << 63;  // sums of two do not overflow

  Problem of_run(JobId first, uint64_t count, std::string_view what) const {
    if (count <= state_.next_job().value && first.value <= state_.next_job().value - count)
      return std::nullopt;
    return "a job recorded as " + std::string(what) + " was never accepted";
  }
  Problem of_runs(const std::vector<JobRange>& runs, std::string_view what) const {
    for (const JobRange& run : runs)
      if (auto problem = of_run(run.first, run.count, what)) return problem;
    return std::nullopt;
  }
  static Problem of_epoch(Epoch first, uint64_t leases) {
    if (first.value <= kMaxNumber && leases <= kMaxNumber - first.value) return std::nullopt;
    return "an epoch is out of range";
  }

  const State& state_;
};

}  // namespace

std::optional<std::string> State::check_form(const Record& record) {
  return std::visit(FormChecker(), record);
}

std::optional<std::string> State::check(const Record& record) const {
  if (auto problem = check_form(record)) return problem;
  if (!begun_ && !std::holds_alternative<records::Checkpoint>(record))
    return "the records do not begin with a checkpoint";
  return std::visit(Checker(*this), record);
}

JobId State::history_excess(uint64_t most) const {
  const IdSet::Runs* sets[] = {&done_.ends_by_first(), &cancelled_.ends_by_first(),
                               &expired_.ends_by_first()};
  IdSet::Runs::const_iterator next[] = {sets[0]->begin(), sets[1]->begin(), sets[2]->begin()};
  uint64_t end = 0;
  for (uint64_t runs = history_runs(); runs > most; --runs) {
    int lowest = -1;
    for (int i = 0; i < 3; ++i)
      if (next[i] != sets[i]->end() && (lowest < 0 || next[i]->first < next[lowest]->first))
        lowest = i;
    end = (next[lowest]++)->second;
  }
  return {end};
}

records::Checkpoint State::checkpoint() const {
  records::Checkpoint record{broker_, incarnation_, next_job_, next_epoch_, counts_};
  record.done = done_.runs();
  record.cancelled = cancelled_.runs();
  record.expired = expired_.runs();
  record.producers = producers_.all();
  for (const Queue& queue : queues_)
    if (queue.has_settings()) record.queues.push_back({queue.name, queue.settings});
  std::sort(record.queues.begin(), record.queues.end(),
            [](const auto& x, const auto& y) { return x.queue < y.queue; });
  for (const auto& [time, name] : key_order_) {
    auto key = keys_.find(name);
    if (key != keys_.end() && key->second.time == time)
      record.keys.push_back({name, key->second.job, time});
  }
  record.history_start = history_start_;
  for (const auto& [worker, periods] : absent_) record.absent.push_back({worker, periods});
  record.totals = largest_totals();
  return record;
}

// Of the queues that have done most: a checkpoint does not grow with the queues that there are.
std::vector<records::QueueTotal> State::largest_totals() const {
  std::vector<const Queue*> queues;
  for (const Queue& queue : queues_)
    if (queue.done > 0) queues.push_back(&queue);
  if (queues.size() > kMaxTotals) {
    std::nth_element(queues.begin(), queues.begin() + ptrdiff_t(kMaxTotals), queues.end(),
                     [](const Queue* x, const Queue* y) {
                       return x->done != y->done ? x->done > y->done : x->name < y->name;
                     });
    queues.resize(kMaxTotals);
  }
  std::sort(queues.begin(), queues.end(),
            [](const Queue* x, const Queue* y) { return x->name < y->name; });
  std::vector<records::QueueTotal> totals;
  for (const Queue* queue : queues) totals.push_back({queue->name, queue->done});
  return totals;
}

records::Relocated State::relocated(JobId id) const {
  const Job& job = *find(id);
  records::Relocated record;
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

records::ResultRetained State::kept(JobId id) const {
  const RetainedResult& result = *result_of(id);
  return {id, result.attempts, result.time, result.bytes};
}

JobState State::state_of(JobId id) const {
  if (const Job* job = jobs_.find(id)) return job->state;
  if (done_.contains(id)) return JobState::done;
  if (cancelled_.contains(id)) return JobState::cancelled;
  if (expired_.contains(id)) return JobState::expired;
  if (results_.contains(id)) return JobState::done;
  return id.value >= 1 && id < history_start_ ? JobState::ended : JobState::unknown;
}

const LastLease* State::last_lease_of(JobId job) const {
  auto found = last_leases_.find(job);
  return found == last_leases_.end() ? nullptr : &found->second;
}

bool State::won(Lease lease) const {
  const Winner& winner = winners_[lease.job.value % kWinners];
  return winner.job == lease.job && winner.epoch == lease.epoch;
}

const std::vector<AttemptFailure>* State::history_of(JobId job) const {
  auto found = failures_.find(job);
  return found == failures_.end() ? nullptr : &found->second;
}

const AttemptFailure* State::last_failure_of(JobId job) const {
  const auto* history = history_of(job);
  return history ? &history->back() : nullptr;
}

std::optional<WallMs> State::due_of(JobId job) const {
  const WallMs* found = due_of_.find(job);
  return found ? std::optional(*found) : std::nullopt;
}

std::optional<WallMs> State::expiry_of(JobId job) const {
  const WallMs* found = expiry_of_.find(job);
  return found ? std::optional(*found) : std::nullopt;
}

std::optional<JobId> State::job_of_key(std::string_view queue, std::string_view key,
                                       WallMs now) const {
  auto found = keys_.find(scoped(queue, key));
  if (found == keys_.end() || found->second.time + retention_.key_window < now) return std::nullopt;
  return found->second.job;
}

const RetainedResult* State::result_of(JobId job) const {
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
    if (time + retention_.result_ttl > now) break;
    let_go(job);
  }
  // By number and not by time: the clock may have been set back.
  for (const auto& [job, result] : results_) {
    if (count <= retention_.results && bytes <= retention_.result_bytes) break;
    let_go(job);
  }
  return surplus.runs();
}

bool State::totals_agree() const {
  uint64_t ready = 0, suspects = 0, scheduled = 0, leased = 0, retry_wait = 0, dead = 0;
  for (const Queue& queue : queues_) {
    ready += queue.ready_jobs();
    suspects += queue.suspects;
    scheduled += queue.scheduled;
    leased += queue.leased;
    retry_wait += queue.retry_wait;
    dead += queue.dead;
  }
  for (const auto& [queue, jobs] : suspects_) suspects -= jobs.size();
  uint64_t leases = 0;
  for (const Worker& worker : workers_) leases += worker.leases;
  return ready == ready_jobs() && suspects == 0 && scheduled == scheduled_jobs() &&
         leased == leased_jobs() && retry_wait == retry_wait_jobs() && dead == dead_.size() &&
         leases == leased_jobs() && due_.size() == due_of_.size() &&
         expiries_.size() <= expiry_of_.size();
}

QueueIndex State::queue_index(std::string_view name) {
  if (auto found = queue_names_.find(name); found != queue_names_.end()) return found->second;
  MILLRACE_CHECK(!name.empty());
  auto index = QueueIndex(queues_.size());
  if (free_queues_.empty()) {
    queues_.emplace_back(&ready_bytes_);
  } else {
    index = *free_queues_.begin();
    free_queues_.erase(free_queues_.begin());
  }
  queues_[index].name = name;
  queue_name_bytes_ += name.size();
  queue_names_.emplace(queues_[index].name, index);
  return index;
}

std::optional<QueueIndex> State::find_queue(std::string_view name) const {
  auto found = queue_names_.find(name);
  return found == queue_names_.end() ? std::nullopt : std::optional(found->second);
}

void State::remove_queue(QueueIndex index) {
  Queue& queue = queues_[index];
  MILLRACE_CHECK(queue.in_use() && queue.is_empty());
  MILLRACE_CHECK(queue_names_.erase(queue.name) == 1);
  MILLRACE_CHECK(queue.suspects == 0 && queue.ready.empty() &&
                 queue_name_bytes_ >= queue.name.size());
  queue_name_bytes_ -= queue.name.size();
  const bool changed = queue.changed;
  queue = Queue(&ready_bytes_);
  queue.changed = changed;
  free_queues_.insert(index);
  while (!queues_.empty() && !queues_.back().in_use() && !queues_.back().changed) {
    queues_.pop_back();
    free_queues_.erase(QueueIndex(queues_.size()));
  }
}

std::vector<QueueIndex> State::take_changed_queues() {
  for (QueueIndex index : changed_queues_) queues_[index].changed = false;
  return std::exchange(changed_queues_, {});
}

Queue& State::change(QueueIndex index) {
  Queue& queue = queues_[index];
  if (!std::exchange(queue.changed, true)) changed_queues_.push_back(index);
  return queue;
}

WorkerIndex State::worker_index(const Uuid& id) {
  auto found = worker_names_.find(id);
  if (found != worker_names_.end()) return found->second;
  WorkerIndex index = WorkerIndex(workers_.size());
  if (free_workers_.empty()) {
    workers_.emplace_back();
  } else {
    index = free_workers_.back();
    free_workers_.pop_back();
  }
  workers_[index] = {.id = id, .used = true};
  worker_names_.emplace(id, index);
  return index;
}

void State::free_if_unused(WorkerIndex index) {
  Worker& worker = workers_[index];
  if (worker.leases > 0 || worker.pinned) return;
  MILLRACE_CHECK(worker.used && worker.suspects == 0);
  MILLRACE_CHECK(worker_names_.erase(worker.id) == 1);
  worker.used = false;
  free_workers_.push_back(index);
}

WorkerIndex State::pin_worker(const Uuid& id) {
  WorkerIndex index = worker_index(id);
  workers_[index].pinned = true;
  return index;
}

void State::unpin_worker(WorkerIndex index) {
  MILLRACE_CHECK(workers_[index].used && workers_[index].pinned);
  workers_[index].pinned = false;
  free_if_unused(index);
}

void State::retain_result(JobId job, RetainedResult result) {
  result_bytes_ += result.bytes.size();
  result_memory_bytes_ += string_bytes(result.bytes);
  result_order_.insert({result.time, job});
  results_.insert_or_assign(job, std::move(result));
}

void State::evict_result(JobId job) {
  auto found = results_.find(job);
  if (found == results_.end()) return;
  MILLRACE_CHECK(result_bytes_ >= found->second.bytes.size());
  MILLRACE_CHECK(result_memory_bytes_ >= string_bytes(found->second.bytes));
  result_bytes_ -= found->second.bytes.size();
  result_memory_bytes_ -= string_bytes(found->second.bytes);
  MILLRACE_CHECK(result_order_.erase({found->second.time, job}) == 1);
  results_.erase(found);
  retire({job, 1});
}

void State::keep_key(std::string_view queue, std::string_view key, JobId job, WallMs time) {
  std::string name = scoped(queue, key);
  key_bytes_ += key_cost(name);
  keys_[name] = {job, time};
  key_order_.emplace_back(time, std::move(name));
  auto too_much = [&] {
    return key_bytes_ > retention_.key_bytes ||
           key_order_.front().first + retention_.key_window < time;
  };
  while (!key_order_.empty() && too_much()) {
    auto& [oldest_time, oldest] = key_order_.front();
    MILLRACE_CHECK(key_bytes_ >= key_cost(oldest));
    key_bytes_ -= key_cost(oldest);
    auto found = keys_.find(oldest);
    if (found != keys_.end() && found->second.time == oldest_time) keys_.erase(found);
    key_order_.pop_front();
  }
}

}  // namespace millrace::core
