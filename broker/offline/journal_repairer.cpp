#include "broker/offline/journal_repairer.h"

#include <algorithm>

#include "broker/records/record_codec.h"
#include "common/base/check.h"

namespace millrace::offline {
namespace {

using core::JobState;

constexpr std::string_view kQueueOfLost = "lost";
constexpr uint64_t kJobsPerRecord = 4096;
constexpr uint64_t kLeastJobBytes = 2;  // of an empty payload

std::vector<JobRange> without(const std::vector<JobRange>& runs,
                              const std::vector<JobRange>& others) {
  IdSet set;
  for (const JobRange& run : runs) set.insert(run);
  for (const JobRange& run : others) set.erase(run);
  return set.runs();
}

JobId end_of(const std::vector<JobRange>& runs) {
  JobId end{};
  for (const JobRange& run : runs) end = std::max(end, JobId{run.first.value + run.count});
  return end;
}

template <typename Visit>
void for_each_id(const std::vector<JobRange>& runs, Visit&& visit) {
  for (const JobRange& run : runs)
    for (uint64_t id = run.first.value; id < run.first.value + run.count; ++id) visit(JobId{id});
}

std::string encode(const Record& record) {
  records::Chunk chunk;
  chunk.append(record);
  std::string bytes;
  for (std::string_view part : chunk.parts()) bytes += part;
  return bytes;
}

// What encode() made.
template <typename Visit>
void decode(const std::string& bytes, Visit&& visit) {
  auto decoded = records::decode_all(bytes, [&](const Record& record, size_t) { visit(record); });
  MILLRACE_CHECK(decoded.ok());
}

bool is_waiting(JobState state) {
  return state == JobState::scheduled || state == JobState::retry_wait;
}

}  // namespace

Epoch JournalRepairer::next_epoch() const { return std::max(state_.next_epoch(), Epoch{1}); }

std::optional<std::string> JournalRepairer::take(const Record& record) {
  auto problem = state_.check(record);
  contradicted_ = problem.has_value();
  gaps_at_end_ = 0;
  if (core::State::check_form(record)) return ++left_out_, problem;
  const bool is_checkpoint = std::holds_alternative<records::Checkpoint>(record);
  if (!has_begun_ && (!begin(record) || is_checkpoint)) return problem;
  // Brokers that were started with a lower --history put the trimming first, until they had Started
  // first.
  const bool comes_before_started = is_checkpoint ||
                                    std::holds_alternative<records::Started>(record) ||
                                    std::holds_alternative<records::HistoryTrimmed>(record);
  if (!comes_before_started && incarnation_ > state_.incarnation())
    put(records::Started{incarnation_, time_, next_epoch()});
  std::visit([&](const auto& r) { repair(r); }, record);
  return problem;
}

void JournalRepairer::gap(uint64_t bytes) {
  open_gap_ += bytes;
  ++gaps_at_end_;
}

// Without a Checkpoint the first jobs that were accepted say where the numbers stand.
bool JournalRepairer::begin(const Record& record) {
  if (std::holds_alternative<records::Checkpoint>(record)) {
    put(record);
  } else if (const auto* accepted = std::get_if<records::Accepted>(&record)) {
    records::Checkpoint checkpoint;
    checkpoint.broker = broker_;
    checkpoint.next_job = unknown_below_ = accepted->first_job;
    put(checkpoint);
    for (const std::string& bytes : std::exchange(early_, {}))
      decode(bytes, [&](const Record& r) {
        const auto* kept = std::get_if<records::ResultRetained>(&r);
        kept ? repair(*kept) : put(r);
      });
  } else {
    keep_early(record);
    return false;
  }
  open_gap_ = 0;
  return has_begun_ = true;
}

// Jobs and results that are relocated on are whole in themselves, and wait for the numbers to be
// known.
void JournalRepairer::keep_early(const Record& record) {
  if (std::holds_alternative<records::Relocated>(record) ||
      std::holds_alternative<records::ResultRetained>(record)) {
    early_.push_back(encode(record));
  } else {
    ++left_out_;
  }
}

void JournalRepairer::put(const Record& record) {
  if (emit_) emit_(record, state_);
  state_.apply(record, Mono{});
  state_.take_settled();
  state_.take_retired();
  std::visit(
      [&](const auto& r) {
        constexpr bool is_kept = std::is_same_v<std::decay_t<decltype(r)>, records::ResultRetained>;
        if constexpr (requires { r.time; } && !is_kept) time_ = r.time;  // of long ago
      },
      record);
}

bool JournalRepairer::reach(JobId end) {
  if (end <= state_.next_job()) return true;
  if (end.value - state_.next_job().value > kMaxGap) return ++left_out_, false;
  while (state_.next_job() < end) {
    const auto next = ahead_.lower_bound(state_.next_job());
    const JobId filled = next == ahead_.end() ? end : std::min(end, next->first);
    if (filled > state_.next_job()) {
      fill(filled.value - state_.next_job().value);
    } else {
      decode(next->second,
             [&](const Record& record) { accept_again(std::get<records::Relocated>(record)); });
    }
  }
  put(records::ProducerGone{});  // nobody sent them
  return true;
}

// Payloads that were lost are empty here; nobody sees them, since their jobs end.
void JournalRepairer::fill(uint64_t count) {
  filled_.insert({state_.next_job(), count});
  while (count > 0) {
    records::Accepted filler;
    filler.first_job = state_.next_job();
    filler.first_seq = {filler.first_job.value};
    filler.time = time_;
    filler.queue = kQueueOfLost;
    filler.payloads.resize(std::min(count, kJobsPerRecord));
    count -= filler.payloads.size();
    put(filler);
  }
}

// As it was at first, but for its sequence: 0 is none, and the next Checkpoint tells it.
void JournalRepairer::accept_again(const records::Relocated& relocated) {
  records::Accepted accepted;
  accepted.first_job = relocated.job;
  accepted.producer = relocated.producer;
  accepted.floor = state_.producers().floor_of(relocated.producer);
  accepted.time = time_;
  accepted.queue = relocated.queue;
  accepted.report = relocated.report;
  accepted.max_attempts = relocated.max_attempts;
  accepted.priority = relocated.priority;
  accepted.due = relocated.due;
  accepted.expires = relocated.expires;
  accepted.payloads = {relocated.payload};
  put(accepted);
}

void JournalRepairer::repair(const records::Accepted& accepted) {
  if (accepted.first_job < state_.next_job()) {
    ++left_out_;
    return;
  }
  if (!reach(accepted.first_job)) return;
  open_gap_ = 0;
  put(accepted);
}

void JournalRepairer::repair(const records::Started& started) {
  if (started.incarnation <= state_.incarnation()) {
    ++left_out_;
    return;
  }
  put(started);
}

void JournalRepairer::repair(const records::Cancelled& cancelled) {
  if (reach(end_of(cancelled.runs))) put(cancelled);
}

void JournalRepairer::repair(const records::Expired& expired) {
  if (reach(end_of(expired.runs))) put(expired);
}

void JournalRepairer::repair(const records::Requeued& requeued) {
  if (reach(end_of(requeued.runs))) put(requeued);
}

// What is known already needs it not, and may differ from it behind a gap. A job of the gap that
// only filled its place is lost in this pass, but need not be in the next.
void JournalRepairer::repair(const records::Relocated& relocated) {
  if (contradicted_) {
    if (!reach({relocated.job.value + 1})) return;
    make_dead(relocated);
  } else {
    put(relocated);
  }
  if (filled_.contains(relocated.job) && state_.find(relocated.job))
    unsaved_.insert_or_assign(relocated.job, encode(relocated));
}

// One that was accepted again must not run again where it was given up.
void JournalRepairer::make_dead(const records::Relocated& relocated) {
  const core::Job* job = state_.find(relocated.job);
  if (relocated.state != JobState::dead || !ahead_.contains(relocated.job) || !job ||
      job->state == JobState::dead)
    return;
  const records::Lease lease{relocated.job, relocated.epoch};
  make_leased(lease);
  records::Failed failed{lease, time_, protocol::FailKind::permanent};
  if (!relocated.history.empty()) {
    failed.worker = relocated.history.back().worker;
    failed.error = relocated.history.back().error;
  }
  put(failed);
}

// Its job was done, perhaps in the gap; what is kept of a Done that was made up gives way to it.
void JournalRepairer::repair(const records::ResultRetained& kept) {
  if (!reach({kept.job.value + 1})) return;
  if (state_.find(kept.job) || state_.state_of(kept.job) == JobState::unknown)
    end_as_done({{kept.job, 1}});
  if (state_.check(kept)) {
    ++left_out_;
  } else {
    put(kept);
  }
}

void JournalRepairer::repair(const records::HistoryTrimmed& trimmed) {
  if (reach(trimmed.below)) put(trimmed);
}

void JournalRepairer::repair(const records::Done& done) {
  JobId end{};
  for (const auto& run : done.runs) end = std::max(end, JobId{run.first.value + run.count});
  if (reach(end)) put(done);
}

// A lease that began in a gap.
void JournalRepairer::make_leased(records::Lease lease) {
  const core::Job* job = state_.find(lease.job);
  if (!job || job->state == JobState::leased) return;
  make_unleased(lease.job);
  put(records::Leased{Uuid{}, lease.epoch, {{lease.job, 1}}});
}

// Ready or waiting: a lease that ended in a gap, or a dead job that came back in one.
void JournalRepairer::make_unleased(JobId id) {
  const core::Job* job = state_.find(id);
  if (!job) return;
  if (job->state == JobState::leased) {
    const records::Lease lease{id, state_.lease_of(id)->epoch};
    put(records::Returned{time_, records::ReturnReason::released, "", {{lease, false}}});
  } else if (job->state == JobState::dead) {
    put(records::Requeued{time_, {{id, 1}}});
  }
}

void JournalRepairer::repair(const records::Leased& leased) {
  if (!reach(end_of(leased.runs))) return;
  for_each_id(leased.runs, [&](JobId id) { make_unleased(id); });
  put(leased);
}

void JournalRepairer::repair(const records::Failed& failed) {
  if (!reach({failed.lease.job.value + 1})) return;
  make_leased(failed.lease);
  put(failed);
}

void JournalRepairer::repair(const records::Returned& returned) {
  JobId end{};
  for (const auto& entry : returned.jobs) end = std::max(end, JobId{entry.lease.job.value + 1});
  if (!reach(end)) return;
  for (const auto& entry : returned.jobs) make_leased(entry.lease);
  put(returned);
}

void JournalRepairer::repair(const records::Due& due) {
  if (!reach(end_of(due.runs))) return;
  IdSet not_waiting;
  for_each_id(due.runs, [&](JobId id) {
    const core::Job* job = state_.find(id);
    if (!job || is_waiting(job->state)) return;
    not_waiting.insert(id);
    if (job->state == JobState::leased) make_unleased(id);
  });
  if (not_waiting.empty()) return put(due);
  records::Due rest{without(due.runs, not_waiting.runs())};
  if (!rest.runs.empty()) put(rest);
}

// A Checkpoint behind a gap tells what happened in it, but for the payloads.
void JournalRepairer::repair(const records::Checkpoint& checkpoint) {
  if (!contradicted_) {
    open_gap_ = 0;
    return;
  }
  if (!reach(checkpoint.next_job)) return;
  open_gap_ = 0;
  if (checkpoint.incarnation > state_.incarnation())
    put(records::Started{checkpoint.incarnation, time_,
                         std::max(checkpoint.next_epoch, next_epoch())});
  reconcile_ended(checkpoint);
  reconcile_producers(checkpoint);
  reconcile_queues(checkpoint);
}

template <typename Ending>
void JournalRepairer::end_jobs(const std::vector<JobRange>& theirs,
                               const std::vector<JobRange>& ours, Ending&& ending) {
  auto runs = without(theirs, ours);
  if (!runs.empty()) put(ending(std::move(runs)));
}

// Under which lease and with what result is not known.
void JournalRepairer::end_as_done(std::vector<JobRange> runs) {
  records::Done done{time_, {}, {}};
  for (const JobRange& run : runs) done.runs.push_back({run.first, Epoch{}, run.count});
  put(done);
  put(records::Collected{std::move(runs)});
}

void JournalRepairer::reconcile_ended(const records::Checkpoint& checkpoint) {
  const records::Checkpoint ours = state_.checkpoint();
  if (auto runs = without(checkpoint.done, ours.done); !runs.empty()) end_as_done(std::move(runs));
  auto cancelled = [&](std::vector<JobRange> runs) {
    return records::Cancelled{time_, records::CancelReason::asked, std::move(runs)};
  };
  auto expired = [](std::vector<JobRange> runs) { return records::Expired{std::move(runs)}; };
  end_jobs(checkpoint.cancelled, ours.cancelled, cancelled);
  end_jobs(checkpoint.expired, ours.expired, expired);
  if (checkpoint.history_start > state_.history_start())
    put(records::HistoryTrimmed{checkpoint.history_start});

  if (unknown_below_.value <= 1) return;
  std::vector<JobRange> ended = checkpoint.done;
  ended.insert(ended.end(), checkpoint.cancelled.begin(), checkpoint.cancelled.end());
  ended.insert(ended.end(), checkpoint.expired.begin(), checkpoint.expired.end());
  if (checkpoint.history_start.value > 1)  // those below it have ended, or a Relocated follows
    ended.push_back({{1}, checkpoint.history_start.value - 1});
  for (const JobRange& run : without({{{1}, unknown_below_.value - 1}}, ended))
    retired_jobs_.insert(run);
  unknown_below_ = {};
}

// It had not ended when the first Checkpoint that is left was written, and nothing was heard of it.
bool JournalRepairer::is_missing_elder(JobId job) const {
  return retired_jobs_.contains(job) && state_.state_of(job) == JobState::unknown;
}

void JournalRepairer::reconcile_producers(const records::Checkpoint& checkpoint) {
  for (const records::ProducerState& producer : checkpoint.producers) {
    for (const records::SeqRun& run : producer.known) {
      for (uint64_t i = 0; i < run.count; ++i) {
        const Seq seq{run.first.value + i};
        const JobId job{run.first_job.value + i};
        const bool is_lost = (filled_.contains(job) && state_.find(job)) || is_missing_elder(job);
        if (!is_lost && !state_.producers().look_up(producer.id, seq, 1).known)
          put(records::Matched{producer.id, seq, producer.floor, producer.seen, job});
      }
    }
  }
  auto is_theirs = [&](const Uuid& id) {
    return std::any_of(checkpoint.producers.begin(), checkpoint.producers.end(),
                       [&](const auto& producer) { return producer.id == id; });
  };
  for (const records::ProducerState& producer : state_.producers().all())
    if (!is_theirs(producer.id)) put(records::ProducerGone{producer.id});
}

void JournalRepairer::reconcile_queues(const records::Checkpoint& checkpoint) {
  const auto ours = state_.checkpoint().queues;
  for (const records::QueueSet& queue : checkpoint.queues)
    if (std::find(ours.begin(), ours.end(), queue) == ours.end()) put(queue);
  auto is_theirs = [&](const records::QueueSet& queue) {
    return std::any_of(checkpoint.queues.begin(), checkpoint.queues.end(),
                       [&](const auto& their) { return their.queue == queue.queue; });
  };
  for (const records::QueueSet& queue : ours)
    if (!is_theirs(queue)) put(records::QueueSet{queue.queue, {}});
}

void JournalRepairer::lose(const std::vector<JobRange>& runs, bool is_exact) {
  if (runs.empty()) return;
  put(records::Cancelled{time_, records::CancelReason::dropped, runs});
  // Below the history most of them had ended; which ones nobody knows.
  for (const JobRange& run : runs)
    lost_.push_back({run, is_exact && run.first >= state_.history_start()});
}

void JournalRepairer::finish() {
  if (!has_begun_) return;
  IdSet lost;
  for_each_id(filled_.runs(), [&](JobId id) {
    if (state_.find(id)) lost.insert(id);
  });
  for_each_id(retired_jobs_.runs(), [&](JobId id) {
    if (is_missing_elder(id)) lost.insert(id);
  });
  lose(lost.runs(), true);
  // How they ended nobody can say, and most of them did long ago.
  if (unknown_below_.value > 1) lost_.push_back({{{1}, unknown_below_.value - 1}, false});
  // Leases may be among what is lost: their epochs must not be given out again.
  constexpr uint64_t kEpochsOfGap = uint64_t{1} << 34;  // a segment of nothing but Leased records
  if (gaps_at_end_ > 0)
    put(records::Started{state_.incarnation() + gaps_at_end_,
                         time_,
                         {next_epoch().value + gaps_at_end_ * kEpochsOfGap}});
  // Their numbers may have been given out, and must not be given to others.
  const JobRange tail{state_.next_job(), std::min(open_gap_ / kLeastJobBytes, kMaxGap)};
  if (tail.count > 0 && reach({tail.first.value + tail.count})) lose({tail}, false);
  std::sort(lost_.begin(), lost_.end(),
            [](const Lost& a, const Lost& b) { return a.jobs.first < b.jobs.first; });
}

}  // namespace millrace::offline
