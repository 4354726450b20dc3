// A broker's journal through several lives (checkpoints, rotation, retirement, recycling,
// restarts), with the power cut at every step of it: the state that is replayed is one that the
// broker had, and none older than what it had confirmed.
#include <fmt/format.h>

#include <map>
#include <optional>

#include "broker/core/state/state.h"
#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"
#include "tests/crash/power_cut.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;
using core::JobState;
using core::State;

namespace {

constexpr uint64_t kChunksALife = 100;
constexpr uint64_t kLives = 4;
constexpr uint64_t kBatchesASegment = 5;

// From this length of the trace on, what a replay must find.
struct Promise {
  size_t trace = 0;
  size_t begun = 0;      // states up to this one may be there
  size_t committed = 0;  // states before this one must not be
};

struct History {
  std::vector<Op> trace;
  std::vector<Promise> promises;
  std::vector<std::string> states;  // after each chunk; the first is that of no journal at all
};

// A State that a journal fills, as the start of a broker does it.
struct Replayed {
  State state;
  uint64_t records = 0;

  Journal::Replay visitor() {
    return records::replay([this](const records::Record& record, Place) -> Result<void> {
      if (auto problem = state.check(record)) return Error{ExitCode::bad_data, *problem};
      state.apply(record, Mono{});
      ++records;
      return {};
    });
  }
};

class BrokerLife {
 public:
  BrokerLife(unsigned seed, FsyncMode fsync) : random_(seed), fsync_(fsync) {
    state_.set_broker(kBroker);
    history_.states.push_back(State().describe());
  }

  History live() {
    for (uint64_t life = 1; life <= kLives; ++life) {
      start(life);
      for (uint64_t i = 0; i < kChunksALife; ++i) {
        act();
        if (fsync_ != FsyncMode::always && random_() % 3 == 0) sync();
        retire();
      }
      if (life % 2 == 0) stop();  // the others are killed
    }
    history_.trace = directory_.trace();
    return std::move(history_);
  }

 private:
  void promise(size_t begun, size_t committed) {
    history_.promises.push_back({directory_.trace().size(), begun, committed});
  }
  void promise_all() {
    promise(history_.states.size() - 1, committed_ = history_.states.size() - 1);
  }

  void start(uint64_t incarnation) {
    Replayed replayed;
    auto found = scan(directory_, replayed.visitor());
    REQUIRE(found.ok());
    REQUIRE(finish(directory_, &*found).ok());
    if (incarnation > 1) REQUIRE(replayed.state.describe() == state_.describe());
    promise_all();  // what was in the page cache is copied and synced
    writer_.emplace(directory_, std::move(*found), kBroker, incarnation, fsync_, kSmallSegment);
    begin_segment();
    emit(records::Started{incarnation, wall_from_int(1000)});
    commit();
  }

  void stop() {
    auto sealed = writer_->seal();
    REQUIRE(sealed.ok());
    promise_all();
    writer_.reset();
  }

  void begin_segment() {
    new_segment_ = true;
    in_segment_ = 0;
    emit(state_.checkpoint());
  }

  void emit(const records::Record& record) {
    REQUIRE_FALSE(state_.check(record));
    state_.apply(record, Mono{});
    chunk_.append(record);
  }

  void commit() {
    history_.states.push_back(state_.describe());
    promise(history_.states.size() - 1, committed_);
    auto written = writer_->write(batch_of(chunk_), std::exchange(new_segment_, false), WallMs());
    REQUIRE(written.ok());
    REQUIRE(*written == SegmentWriter::Outcome::done);
    for (JobId job : std::exchange(accepted_, {})) segment_of_[job] = writer_->last_body().segment;
    chunk_ = {};
    ++in_segment_;
    if (!writer_->unsynced()) promise_all();
  }

  void sync() {
    REQUIRE(writer_->sync().ok());
    promise_all();
  }

  void act() {
    if (in_segment_ >= kBatchesASegment) begin_segment();
    const auto ready = jobs_in(JobState::ready), leased = jobs_in(JobState::leased);
    const auto dice = random_() % 10;
    if (dice < 3 && !ready.empty()) {
      lease(ready.front());
    } else if (dice < 7 && !leased.empty()) {
      finish_job(leased.front(), dice == 3);
    } else if (dice == 9 && !jobs_in(JobState::retry_wait).empty()) {
      emit(records::Due{{{jobs_in(JobState::retry_wait).front(), 1}}});
    } else {
      accept(1 + random_() % 3);
    }
    commit();
  }

  void accept(uint64_t count) {
    const std::string payload =
        payload_of(state_.next_job().value, random_() % 4 == 0 ? 5000 : random_() % 700);
    records::Accepted record;
    record.first_job = state_.next_job();
    record.first_seq = {record.first_job.value};
    record.producer = Uuid{{1}};
    record.time = wall_from_int(2000);
    record.queue = "q";
    record.payloads.assign(count, payload);
    for (uint64_t i = 0; i < count; ++i) accepted_.push_back({record.first_job.value + i});
    emit(record);
  }

  void lease(JobId job) { emit(records::Leased{Uuid{{2}}, state_.next_epoch(), {{job, 1}}}); }

  void finish_job(JobId job, bool fails) {
    const records::Lease lease{job, state_.lease_of(job)->epoch};
    if (fails) {
      emit(records::Failed{lease, wall_from_int(3000), protocol::FailKind::retryable,
                           wall_from_int(4000), "w", "no luck"});
    } else {
      emit(records::Done{wall_from_int(3000), {{job, lease.epoch, 1}}, {}});
      segment_of_.erase(job);
    }
  }

  std::vector<JobId> jobs_in(JobState state) const {
    std::vector<JobId> jobs;
    for (const auto& [job, segment] : segment_of_)
      if (state_.state_of(job) == state) jobs.push_back(job);
    return jobs;
  }

  // Segments without live jobs, from the oldest on, once everything so far is on disk.
  void retire() {
    SegmentId needed = writer_->last_body().segment;
    for (const auto& [job, segment] : segment_of_) needed = std::min(needed, segment);
    if (needed.value - 1 <= retired_.value || needed.value == 0) return;
    sync();
    retired_ = {needed.value - 1};
    for (;;) {
      auto gone = writer_->retire_one(retired_);
      REQUIRE(gone.ok());
      if (!*gone) return;
    }
  }

  std::mt19937 random_;
  const FsyncMode fsync_;
  FakeDirectory directory_;
  std::optional<SegmentWriter> writer_;
  State state_;
  records::Chunk chunk_;
  bool new_segment_ = false;
  uint64_t in_segment_ = 0;
  std::vector<JobId> accepted_;            // by the chunk that is not written yet
  std::map<JobId, SegmentId> segment_of_;  // live jobs
  SegmentId retired_;
  size_t committed_ = 0;
  History history_;
};

// What the names in the trace tell of the work that was done.
struct Work {
  size_t removals = 0, recycled = 0;
};
Work work_in(const std::vector<Op>& trace) {
  Work work;
  for (const Op& op : trace) {
    work.removals += op.kind == Op::remove;
    work.recycled += op.kind == Op::rename && op.name.starts_with("spare-");
  }
  return work;
}

void check_state(const History& history, size_t at, Disk after) {
  Promise promise;
  for (const Promise& next : history.promises) {
    if (next.trace > at) break;
    promise = next;
  }
  FakeDirectory directory(std::move(after));
  Replayed replayed;
  auto found = scan(directory, replayed.visitor());
  if (!found) FAIL(fmt::format("step {}: {}", at, found.error().message));
  const std::string state = replayed.state.describe();
  for (size_t i = promise.committed; i <= promise.begun; ++i)
    if (history.states[i] == state) return;
  FAIL(fmt::format("step {}: the state is none of those from {} to {}:\n{}", at, promise.committed,
                   promise.begun, state));
}

void check_every_cut(unsigned seed, FsyncMode fsync) {
  const History history = BrokerLife(seed, fsync).live();
  const Work work = work_in(history.trace);
  std::mt19937 random(seed);
  Disk running;
  size_t states = 0;
  for (size_t at = 0; at < history.trace.size(); ++at) {
    running.apply(history.trace[at]);
    states += for_each_crash(running, random,
                             [&](Disk after) { check_state(history, at + 1, std::move(after)); });
  }
  fmt::print("broker, seed {}: {} steps, {} segments recycled, {} removed, {} states after a cut\n",
             seed, history.trace.size(), work.recycled, work.removals, states);
  CHECK(states > 9'000 / kOneOf);
  CHECK(work.recycled > 3);
}

}  // namespace

TEST_CASE("a broker that lost its power comes back in a state that it had confirmed", "[crash]") {
  for (unsigned seed : {1u, 2u}) check_every_cut(seed, FsyncMode::always);
}

TEST_CASE("with fewer syncs it comes back in one that it had, no older than the last sync",
          "[crash]") {
  for (unsigned seed : {3u, 4u}) check_every_cut(seed, FsyncMode::interval);
}
