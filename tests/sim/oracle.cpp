#include "tests/sim/oracle.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "tests/sim/random.h"

namespace millrace::sim {

using protocol::JobState;

namespace {

constexpr Nanos kLongRunPerMille = 15;

std::string name_of(const Uuid& id) { return id.hex().substr(0, 6); }

}  // namespace

uint64_t hash_of(std::string_view payload) { return XXH3_64bits(payload.data(), payload.size()); }

ScriptedJob scripted_job_of(const Plan& plan, uint64_t hash, uint64_t attempt) {
  Random random(hash);
  ScriptedJob scripted;
  scripted.kills_worker = random.chance(plan.poison_per_mille);
  Random each = random.fork("attempt", attempt);
  scripted.run = each.between(plan.typical_run / 10, plan.typical_run * 2);
  if (each.chance(kLongRunPerMille))
    scripted.run = each.between(0, 3 * plan.settings.lease.count() * kMilli / 2);
  scripted.completion = worker::Completion::done(result_of(hash));
  if (each.chance(plan.fail_per_mille)) {
    using Kind = worker::Completion::Kind;
    Kind kind = each.chance(800)   ? Kind::retryable
                : each.chance(500) ? Kind::permanent
                                   : Kind::crash;
    scripted.completion = worker::Completion::failed(kind, "as its payload says");
  }
  return scripted;
}

std::string result_of(uint64_t hash) { return fmt::format("{:016x}", hash).substr(0, hash % 17); }

// ---- producers

void Oracle::submitted(const Uuid& producer, Seq seq, Submission submission) {
  auto& list = producers_[producer];
  if (list.size() + 1 != seq.value)
    World::fail({"the simulator is right", "a producer skipped a sequence"});
  list.push_back(std::move(submission));
  ++totals_.submitted;
}

Submission& Oracle::at(const Uuid& producer, Seq seq) {
  auto& list = producers_[producer];
  if (seq.value == 0 || seq.value > list.size())
    World::fail({"only what was submitted is known",
                 fmt::format("sequence {} of {}", seq.value, name_of(producer))});
  return list[seq.value - 1];
}

const Submission* Oracle::find(const Uuid& producer, Seq seq) const {
  auto found = producers_.find(producer);
  if (found == producers_.end() || seq.value == 0 || seq.value > found->second.size())
    return nullptr;
  return &found->second[seq.value - 1];
}

bool Oracle::is_true(const Job& job, JobState told) const {
  return told != JobState::unknown &&
         (job.state == told || (told == JobState::dead && job.was_dead) ||
          (told == JobState::ended && is_end(job.state) && job.state != JobState::dead));
}

// What it was told before, it has forgotten.
void Oracle::submitted_again(const Uuid& producer, Seq seq) {
  Submission& submission = at(producer, seq);
  if (submission.answer == Submission::rejected) submission.answer = Submission::none;
}

void Oracle::confirmed(const std::string& who, const Uuid& producer,
                       const producer::Confirmed& event) {
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    Seq seq{event.seqs.first.value + i};
    JobId job{event.first_job.value + i};
    Submission& submission = at(producer, seq);
    if (submission.stored_as != job)
      World::fail({"a confirm names the stored job",
                   fmt::format("{} seq {} was confirmed as j{}, and is stored as j{}", who,
                               seq.value, job.value, submission.stored_as.value),
                   job.value, who});
    if (submission.answer == Submission::confirmed && submission.confirmed_as != job)
      World::fail({"a confirmed sequence keeps its job", fmt::format("{} seq {}", who, seq.value),
                   job.value, who});
    if (submission.answer != Submission::confirmed) ++totals_.confirmed;
    submission.answer = Submission::confirmed;
    submission.confirmed_as = job;
  }
}

void Oracle::rejected(const Uuid& producer, const producer::Rejected& event) {
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    Seq seq{event.seqs.first.value + i};
    Submission& submission = at(producer, seq);
    if (submission.stored_as.value != 0)
      World::fail({"what was rejected is not stored",
                   fmt::format("seq {} of {} was rejected as {}, and is j{}", seq.value,
                               name_of(producer), event.reason, submission.stored_as.value),
                   submission.stored_as.value});
    submission.answer = Submission::rejected;
    ++totals_.rejected;
  }
}

void Oracle::ended(const std::string& who, const Uuid& producer, const producer::Ended& event) {
  for (uint64_t i = 0; i < event.seqs.count; ++i) {
    Seq seq{event.seqs.first.value + i};
    JobId id{event.first_job.value + i};
    Submission& submission = at(producer, seq);
    Job& job = job_at(id);
    job.heard_of = true;
    if (!is_true(job, event.state))
      World::fail({"an outcome is the job's end",
                   fmt::format("{} heard that j{} is {}, and it is {}", who, id.value,
                               protocol::name_of(event.state), protocol::name_of(job.state)),
                   id.value, who});
    bool first = !std::exchange(submission.ended, true);
    bool wants_result =
        submission.options.report == protocol::Report::result && event.state == JobState::done;
    uint64_t hash = at(job.producer, job.seq).payload_hash;
    // It may have been told to another before.
    bool late = submission.matched || job.was_dead || !keeps_results();
    if (wants_result && (event.has_result ? event.result != result_of(hash) : first && !late))
      World::fail({"a result reaches its producer",
                   fmt::format("{} heard of the end of j{} {}", who, id.value,
                               event.has_result ? "with a wrong result" : "without its result"),
                   id.value, who});
  }
}

// Until a producer has them: the limits for what is kept are out of reach.
bool Oracle::keeps_results() const {
  const core::RetentionLimits& retention = plan_.settings.retention;
  const bool ample = retention.results >= 65536 && retention.result_bytes >= 1 << 20 &&
                     retention.result_ttl >= std::chrono::hours(1);
  return ample && !wall_jumped_;
}

void Oracle::told(const std::string& who, protocol::JobRange jobs, JobState state) {
  for (uint64_t i = 0; i < jobs.count; ++i) {
    JobId id{jobs.first.value + i};
    bool exists = id.value >= 1 && id.value <= jobs_.size();
    JobState really = exists ? jobs_[id.value - 1].state : JobState::unknown;
    bool ends = protocol::is_end(state);
    if ((state == JobState::unknown) != !exists || (ends && !is_true(jobs_[id.value - 1], state)))
      World::fail({"states are true",
                   fmt::format("{} was told that j{} is {}, and it is {}", who, id.value,
                               protocol::name_of(state), protocol::name_of(really)),
                   id.value, who});
  }
}

void Oracle::contradicted(const std::string& who, producer::SeqRange seqs, JobId job) {
  // Somebody gave it new attempts: it has a second end.
  if (job.value <= jobs_.size() && job_at(job).was_dead) return;
  World::fail({"the broker does not contradict itself",
               fmt::format("{} seq {}", who, seqs.first.value), job.value, who});
}

void Oracle::forgotten(const Uuid& producer, Seq below) {
  auto& list = producers_[producer];
  for (uint64_t seq = 1; seq < below.value; ++seq) list[seq - 1].forgotten = true;
}

void Oracle::abandoned(const Uuid& producer) {
  for (Submission& submission : producers_[producer]) {
    if (submission.answer == Submission::none && !submission.abandoned) ++totals_.unknown;
    submission.abandoned = true;
  }
}

// ---- workers

void Oracle::worker_began(const Uuid& worker, std::string name, uint64_t threads) {
  workers_[worker].name = std::move(name);
  workers_[worker].threads = threads;
}

void Oracle::worker_ended(const Uuid& worker) { workers_[worker].alive = false; }

void Oracle::touched(const Uuid& worker) { workers_[worker].touched = world_.now(); }

void Oracle::touched_all() { all_touched_ = world_.now(); }

bool Oracle::is_excused(const WorkerTotals& worker) const {
  const core::Settings& s = plan_.settings;
  Nanos window =
      (s.heartbeat.count() * int64_t(s.liveness) * 3 + s.lease.count()) * kMilli + 20 * kSecond;
  Nanos touched = std::max(worker.touched, all_touched_);
  return !worker.alive || (touched != 0 && world_.now() - touched < window);
}

void Oracle::granted(const Uuid& worker, const protocol::LeaseGrant::Entry& entry,
                     uint64_t most_credit) {
  WorkerTotals& book = workers_[worker];
  Epoch& held = book.held[entry.lease.job];
  held = std::max(held, entry.lease.epoch);
  uint64_t current = 0;
  for (const auto& [job, epoch] : book.held) {
    const Job& known = job_at(job);
    current += known.state == JobState::leased && known.last == epoch;
  }
  if (current > most_credit)
    World::fail({"no worker holds more than its credit",
                 fmt::format("{} holds {} jobs, its credit was never above {}", book.name, current,
                             most_credit),
                 entry.lease.job.value, book.name});
}

void Oracle::let_go(const Uuid& worker, Lease lease) {
  auto& held = workers_[worker].held;
  auto found = held.find(lease.job);
  if (found != held.end() && found->second == lease.epoch) held.erase(found);
}

void Oracle::run_began(const Uuid& worker, const worker::Job& job) {
  const std::string& who = workers_[worker].name;
  auto found = runs_.find(job.lease.epoch.value);
  if (found == runs_.end() || found->second.job != job.lease.job)
    World::fail(
        {"a lease is durable before it is known",
         fmt::format("{} runs j{} under an epoch that no record gave", who, job.lease.job.value),
         job.lease.job.value, who});
  Run& run = found->second;
  if (run.worker != worker || run.began)
    World::fail({"one lease is one run",
                 fmt::format("{} runs j{} under an epoch that {}", who, job.lease.job.value,
                             run.began ? "ran before" : "is another worker's"),
                 job.lease.job.value, who});
  run.began = true;
  ++totals_.executed;
  const Job& known = job_at(job.lease.job);
  if (hash_of(job.payload) != at(known.producer, known.seq).payload_hash)
    World::fail({"a job runs with its own payload", fmt::format("j{}", job.lease.job.value),
                 job.lease.job.value, who});
}

void Oracle::run_ended(const worker::Finished& finished) {
  Run& run = runs_.at(finished.lease.epoch.value);
  run.ended = true;
  run.kind = finished.completion.kind;
}

}  // namespace millrace::sim
