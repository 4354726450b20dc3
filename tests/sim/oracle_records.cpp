// The oracle's half that reads the journal: each durable record must follow from what happened.
#include <fmt/format.h>

#include "tests/sim/oracle.h"

namespace millrace::sim {

using protocol::FailKind;
using protocol::JobState;
using records::ReturnReason;
using Kind = worker::Completion::Kind;

namespace {

using protocol::is_end;

std::string scoped(std::string_view queue, std::string_view key) {
  return std::string(queue) + '\0' + std::string(key);
}

}  // namespace

void Oracle::durable(const records::Record& record, const core::State& state, SegmentId segment) {
  if (auto problem = state.check(record))
    World::fail({"the journal does not contradict itself", *problem});
  std::visit(
      [&](const auto& r) {
        using Type = std::decay_t<decltype(r)>;
        if constexpr (std::is_same_v<Type, records::Accepted> ||
                      std::is_same_v<Type, records::Relocated> ||
                      std::is_same_v<Type, records::ResultRetained>) {
          check(r, segment);
        } else {
          check(r);
        }
      },
      record);
}

Oracle::Job& Oracle::job_at(JobId id) {
  if (id.value == 0 || id.value > jobs_.size())
    World::fail({"only stored jobs are named", fmt::format("j{} is not in the journal", id.value),
                 id.value});
  return jobs_[id.value - 1];
}

void Oracle::check(const records::Accepted& record, SegmentId segment) {
  for (uint64_t i = 0; i < record.payloads.size(); ++i) {
    Seq seq{record.first_seq.value + i};
    JobId id{record.first_job.value + i};
    Submission& submission = at(record.producer, seq);
    if (submission.stored_as.value != 0)
      World::fail(
          {"a submission makes one job",
           fmt::format("seq {} is j{} and j{}", seq.value, submission.stored_as.value, id.value),
           id.value});
    if (submission.payload_hash != hash_of(record.payloads[i]) ||
        submission.queue != record.queue || submission.options.report != record.report ||
        submission.options.max_attempts != record.max_attempts)
      World::fail({"what is stored is what was submitted",
                   fmt::format("j{}, seq {}", id.value, seq.value), id.value});
    if (submission.answer == Submission::rejected)
      World::fail({"what was rejected is not stored",
                   fmt::format("seq {} is j{}", seq.value, id.value), id.value});
    submission.stored_as = id;
    QueueTotals& queue = queues_[std::string(record.queue)];
    Job job{record.producer, seq, segment, &queue, record.priority};
    job.due = record.due;
    job.expires = record.expires;
    const auto& options = submission.options;
    Millis ttl = options.ttl.count() > 0 ? options.ttl : queue.settings.ttl;
    bool timed =
        record.due == (options.delay.count() > 0 ? record.time + options.delay : WallMs{}) &&
        record.expires == (ttl.count() > 0 ? record.time + ttl : WallMs{}) &&
        record.priority == options.priority;
    if (!timed)
      World::fail({"what is stored is what was submitted",
                   fmt::format("the times of j{}", id.value), id.value});
    if (options.key.empty() != record.keys.empty() ||
        (!record.keys.empty() && record.keys[i] != options.key))
      World::fail({"what is stored is what was submitted", fmt::format("the key of j{}", id.value),
                   id.value});
    if (!record.keys.empty()) {
      auto [known, is_new] = keys_.try_emplace(scoped(record.queue, record.keys[i]));
      if (!is_new && !wall_jumped_ &&
          known->second.time + plan_.settings.retention.key_window >= record.time)
        World::fail({"a key makes one job in its window",
                     fmt::format("j{} and j{}", known->second.job.value, id.value), id.value});
      known->second = {id, record.time};
    }
    jobs_.push_back(job);
    ++queue.length;
    ++needed_[segment];
    if (queue.settings.max_length > 0 && queue.length > queue.settings.max_length)
      World::fail({"no queue is longer than its limit",
                   fmt::format("{} jobs of {}", queue.length, queue.settings.max_length),
                   id.value});
    move(id, jobs_.back(), record.due == WallMs{} ? JobState::ready : JobState::scheduled);
  }
}

void Oracle::check(const records::Relocated& record, SegmentId segment) {
  Job& job = job_at(record.job);
  const Submission& submission = at(job.producer, job.seq);
  if (job.state != record.state || hash_of(record.payload) != submission.payload_hash ||
      record.queue != submission.queue)
    World::fail({"what is relocated is the job",
                 fmt::format("j{} is {}, and written as {}", record.job.value,
                             protocol::name_of(job.state), protocol::name_of(record.state)),
                 record.job.value});
  release(job);
  ++needed_[job.segment = segment];
}

void Oracle::check(const records::ResultRetained& record, SegmentId segment) {
  Job& job = job_at(record.job);
  if (!job.kept || record.result != result_of(at(job.producer, job.seq).payload_hash))
    World::fail(
        {"what is retained is the result", fmt::format("j{}", record.job.value), record.job.value});
  release(job);
  ++needed_[job.segment = segment];
}

void Oracle::release(Job& job) {
  if (--needed_[job.segment] == 0) needed_.erase(job.segment);
}

// Keeps the totals of the job's queue.
void Oracle::move(JobId id, Job& job, JobState state) {
  QueueTotals& queue = *job.queue;
  auto is_live = [](JobState s) { return s != JobState::unknown && !is_end(s); };
  if (is_live(job.state) && !is_live(state)) --queue.length;
  if (job.state == JobState::dead && is_live(state)) ++queue.length;
  auto& ready = job.suspect ? queue.suspects : queue.ready[job.priority];
  if (job.state == JobState::ready) ready.erase(id);
  if (state == JobState::ready) ready.insert(id);
  if (job.state == JobState::leased) {
    --queue.leased;
    auto& leases = leases_[job.owner];
    leases.erase(job.last);
    if (leases.empty()) leases_.erase(job.owner);
  }
  if (state == JobState::leased) {
    ++queue.leased;
    leases_[job.owner][job.last] = id;
    job.leased_at = world_.now();
  }
  job.was_dead = job.was_dead || state == JobState::dead;
  job.state = state;
  // A dead job keeps its segment: it may be retried.
  if (is_end(state) && state != JobState::dead && !job.kept) release(job);
}

unsigned Oracle::attempts_of(const Job& job) const {
  auto producer = producers_.find(job.producer);
  unsigned own = producer->second[job.seq.value - 1].options.max_attempts;
  if (own > 0) return own;
  return job.queue->settings.max_attempts > 0 ? job.queue->settings.max_attempts
                                              : plan_.settings.max_attempts;
}

void Oracle::check(const records::Leased& record) {
  Epoch epoch = record.first_epoch;
  std::vector<JobId> fresh;
  for (const auto& run : record.runs) {
    for (uint64_t i = 0; i < run.count; ++i, ++epoch.value) {
      JobId id{run.first.value + i};
      Job& job = job_at(id);
      bool again = epoch == job.last && job.owner == record.worker &&
                   job.state != JobState::leased;  // claimed
      if (is_end(job.state) || (epoch <= job.last && !again))
        World::fail(
            {"epochs grow, and what ended is not leased", fmt::format("j{}", id.value), id.value});
      if (!again && job.crashes >= plan_.settings.crash_limit)
        World::fail({"attempts stay within limits",
                     fmt::format("j{} is leased after {} crashes", id.value, job.crashes),
                     id.value});
      if (!again && job.state != JobState::ready)
        World::fail({"only ready jobs are leased",
                     fmt::format("j{} was {}", id.value, protocol::name_of(job.state)), id.value});
      job.last = epoch;
      job.owner = record.worker;
      if (again) ++job.queue->turns, job.queue->passed_over = 0;  // it may have had the turn
      move(id, job, JobState::leased);
      if (again) continue;
      runs_[epoch.value] = {id, record.worker};
      if (job.suspect) {
        check_apart(id, job);
      } else {
        fresh.push_back(id);
      }
      const auto& limits = job.queue->settings;
      if (limits.paused || (limits.concurrency > 0 && job.queue->leased > limits.concurrency))
        World::fail({"a queue's limits are respected",
                     fmt::format("j{} is leased: {} leases of {}, {}", id.value, job.queue->leased,
                                 limits.concurrency, limits.paused ? "paused" : "not paused"),
                     id.value});
    }
  }
  check_order(fresh);
  if (fresh.size() == count_of(record)) check_turns(fresh);
}

// With a new process the turns begin anew.
void Oracle::check(const records::Started&) {
  for (auto& [name, queue] : queues_) queue.forget_turns();
  for (auto& [worker, absence] : away_) ++absence.restarts;
}

void Oracle::check(const records::Absent& record) {
  outwaited_.clear();
  for (const auto& [worker, periods] : record.workers) {
    Absence& absence = away_[worker];
    if (periods > 0 && periods != absence.periods + 1)
      World::fail({"the grace window goes on period by period",
                   fmt::format("{} after {}", periods, absence.periods)});
    const bool is_over = std::exchange(absence.periods, periods) == records::kGracePeriods - 1;
    if (periods > 0) continue;
    if (is_over && absence.restarts > 0) outwaited_.insert(worker);
    away_.erase(worker);
  }
}

void Oracle::check(const records::Done& record) {
  auto result = record.results.begin();
  for (const auto& run : record.runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      JobId id{run.first.value + i};
      Epoch epoch{run.first_epoch.value + i};
      Job& job = job_at(id);
      if (is_end(job.state))
        World::fail({"a job has one end", fmt::format("j{} is done again", id.value), id.value});
      if (epoch != job.last)
        World::fail(
            {"only the last epoch completes a job", fmt::format("j{}", id.value), id.value});
      const Run& ran = runs_[epoch.value];
      if (!ran.ended || ran.kind != Kind::done || ran.job != id)
        World::fail({"what is done has run",
                     fmt::format("j{} did not end well under that epoch", id.value), id.value});
      if (job.state != JobState::leased) world_.count("ends of attempts", "done late");
      const Submission& submission = at(job.producer, job.seq);
      if (submission.options.report == protocol::Report::result) {
        bool there = result != record.results.end() && result->job == id;
        if (!there || result->bytes != result_of(submission.payload_hash))
          World::fail({"result and DONE are one record", fmt::format("j{}", id.value), id.value});
        ++result;
      }
      job.kept = submission.options.report == protocol::Report::result;
      move(id, job, JobState::done);
    }
  }
}

void Oracle::check(const records::Failed& record) {
  JobId id = record.lease.job;
  Job& job = job_at(id);
  if (job.state != JobState::leased || record.lease.epoch != job.last)
    World::fail(
        {"only the current epoch ends a lease", fmt::format("j{} failed", id.value), id.value});
  const Run& ran = runs_[record.lease.epoch.value];
  if (!ran.ended || ran.kind == Kind::done)
    World::fail({"what failed has run and failed", fmt::format("j{}", id.value), id.value});
  constexpr FailKind kKinds[] = {FailKind::retryable, FailKind::retryable, FailKind::permanent,
                                 FailKind::crash};
  static_assert(size_t(Kind::done) == 0 && size_t(Kind::retryable) == 1 &&
                size_t(Kind::permanent) == 2 && size_t(Kind::crash) == 3);
  if (record.kind != kKinds[size_t(ran.kind)])
    World::fail({"what failed has run and failed",
                 fmt::format("j{} in another way than the journal says", id.value), id.value});
  bool is_crash = record.kind == FailKind::crash;
  unsigned charged = ++(is_crash ? job.crashes : job.failures);
  unsigned limit = is_crash ? plan_.settings.crash_limit : attempts_of(job);
  bool dies = record.kind == FailKind::permanent || charged >= limit;
  if (dies != (record.due == WallMs{}))
    World::fail({"attempts stay within limits",
                 fmt::format("j{} after {} of {}", id.value, charged, limit), id.value});
  job.due = record.due;
  job.suspect = false;  // its worker lived to tell
  move(id, job, dies ? JobState::dead : JobState::retry_wait);
}

void Oracle::check(const records::Returned& record) {
  bool is_crash = record.reason == ReturnReason::lost || record.reason == ReturnReason::expired;
  for (const auto& entry : record.jobs)
    if (is_crash) check_charge(entry.lease.job, job_at(entry.lease.job));
  for (const auto& entry : record.jobs) {
    JobId id = entry.lease.job;
    Job& job = job_at(id);
    if (job.state != JobState::leased || entry.lease.epoch != job.last)
      World::fail(
          {"only the current epoch ends a lease", fmt::format("j{} returned", id.value), id.value});
    if (record.reason != ReturnReason::released) check_survivor(job, entry.lease, record.reason);
    if (is_crash) ++job.crashes;
    if (entry.dead != (is_crash && job.crashes >= plan_.settings.crash_limit))
      World::fail({"attempts stay within limits",
                   fmt::format("j{} after {} crashes", id.value, job.crashes), id.value});
    job.suspect = job.suspect || is_crash;
    move(id, job, entry.dead ? JobState::dead : JobState::ready);
  }
}

// Its worker runs its jobs in the order of their epochs, so many at a time as it has threads.
void Oracle::check_charge(JobId id, const Job& job) const {
  auto leases = leases_.find(job.owner);
  auto worker = workers_.find(job.owner);
  if (leases == leases_.end() || worker == workers_.end()) return;
  const auto at = leases->second.find(job.last);
  const auto before = uint64_t(std::distance(leases->second.begin(), at));
  if (before >= worker->second.threads)
    World::fail({"only what may have run is charged",
                 fmt::format("j{} is charged a crash; {} of {} threads had {} jobs before it",
                             id.value, worker->second.name, worker->second.threads, before),
                 id.value, worker->second.name});
}

// A suspect is the first of its queue's, and beside no other one that its worker has had for less
// than 10 s, as far as that can be told from when the records were durable.
void Oracle::check_apart(JobId id, const Job& job) const {
  constexpr Nanos kApart = 5 * kSecond;
  const auto& waiting = job.queue->suspects;
  if (!waiting.empty() && *waiting.begin() < id)
    World::fail({"suspects are leased in their order", fmt::format("j{}", id.value), id.value});
  for (auto [epoch, other] : leases_.at(job.owner)) {
    const Job& held = jobs_[other.value - 1];
    if (other == id || !held.suspect || world_.now() - held.leased_at >= kApart) continue;
    World::fail({"suspects are tried apart from each other",
                 fmt::format("j{} is leased to a worker that holds j{}", id.value, other.value),
                 id.value});
  }
}

// A lease is not taken from a worker that no fault has touched for a while.
void Oracle::check_survivor(const Job& job, Lease lease, ReturnReason reason) const {
  auto found = workers_.find(job.owner);
  if (found == workers_.end() || is_excused(found->second)) return;
  // It had the whole window, but the broker was away for a part of it.
  if (reason == ReturnReason::lost && outwaited_.contains(job.owner)) return;
  auto held = found->second.held.find(lease.job);
  if (held == found->second.held.end() || held->second != lease.epoch) return;
  constexpr std::string_view kReasons[] = {"released", "lost", "expired", "never arrived"};
  World::fail({"nothing is taken from a worker that is well",
               fmt::format("j{} was taken from {} as {}", lease.job.value, found->second.name,
                           kReasons[size_t(reason)]),
               lease.job.value, found->second.name});
}

namespace {

template <typename Visit>
void each(const std::vector<protocol::JobRange>& runs, Visit&& visit) {
  for (const auto& run : runs)
    for (uint64_t i = 0; i < run.count; ++i) visit(JobId{run.first.value + i});
}

}  // namespace

void Oracle::check(const records::Due& record) {
  each(record.runs, [&](JobId id) {
    Job& job = job_at(id);
    if (job.state != JobState::retry_wait && job.state != JobState::scheduled)
      World::fail({"only what waits becomes due",
                   fmt::format("j{} is {}", id.value, protocol::name_of(job.state)), id.value});
    move(id, job, JobState::ready);
  });
}

void Oracle::check(const records::Matched& record) {
  Submission& submission = at(record.producer, record.seq);
  auto key = keys_.find(scoped(submission.queue, submission.options.key));
  if (submission.stored_as.value != 0 || submission.options.key.empty() || key == keys_.end() ||
      key->second.job != record.job)
    World::fail({"a key stands for the job that it made",
                 fmt::format("seq {} and j{}", record.seq.value, record.job.value),
                 record.job.value});
  submission.stored_as = record.job;
  submission.matched = true;
}

void Oracle::check(const records::Cancelled& record) {
  using records::CancelReason;
  each(record.runs, [&](JobId id) {
    Job& job = job_at(id);
    bool fits =
        record.reason == CancelReason::dropped ? job.state == JobState::dead : !is_end(job.state);
    if (record.reason == CancelReason::purged && job.state == JobState::leased) fits = false;
    if (!fits)
      World::fail(
          {"a job has one end",
           fmt::format("j{} is cancelled, and was {}", id.value, protocol::name_of(job.state)),
           id.value});
    move(id, job, JobState::cancelled);
  });
}

void Oracle::check(const records::Expired& record) {
  each(record.runs, [&](JobId id) {
    Job& job = job_at(id);
    if (is_end(job.state) || job.state == JobState::leased || job.expires == WallMs{})
      World::fail({"only what waits expires",
                   fmt::format("j{} was {}", id.value, protocol::name_of(job.state)), id.value});
    move(id, job, JobState::expired);
  });
}

void Oracle::check(const records::Collected& record) {
  each(record.runs, [&](JobId id) {
    Job& job = job_at(id);
    if (!std::exchange(job.kept, false)) return;
    if (keeps_results() && !job.heard_of)
      World::fail(
          {"a result is kept until its producer has it", fmt::format("j{}", id.value), id.value});
    release(job);
  });
}

void Oracle::check(const records::ProducerGone& record) {
  for (Job& job : jobs_)
    if (job.producer == record.producer) job.orphaned = true;
}

void Oracle::check(const records::Requeued& record) {
  each(record.runs, [&](JobId id) {
    Job& job = job_at(id);
    if (job.state != JobState::dead)
      World::fail({"only the dead are revived", fmt::format("j{}", id.value), id.value});
    job.failures = job.crashes = 0;
    job.suspect = false;
    job.expires = WallMs{};
    move(id, job, JobState::ready);
  });
}

void Oracle::check(const records::QueueSet& record) {
  QueueTotals& queue = queues_[record.queue];
  queue.settings = record.settings;
  queue.forget_turns();
}

void Oracle::timely(const records::Record& record, WallMs now) const {
  auto check_each = [&](const std::vector<protocol::JobRange>& runs, WallMs Job::*when) {
    each(runs, [&](JobId id) {
      if (id.value > jobs_.size()) return;  // its record is on its way
      const Job& job = jobs_[id.value - 1];
      // A retry counts its backoff, whatever the wall clock has done since.
      bool waits =
          job.state == JobState::scheduled || (job.state == JobState::retry_wait && !wall_jumped_);
      bool early = job.*when != WallMs{} && job.*when > now && (when == &Job::expires || waits);
      if (early)
        World::fail({"nothing comes before its time", fmt::format("j{}", id.value), id.value});
    });
  };
  if (auto* due = std::get_if<records::Due>(&record)) check_each(due->runs, &Job::due);
  if (auto* expired = std::get_if<records::Expired>(&record))
    check_each(expired->runs, &Job::expires);
}

}  // namespace millrace::sim
