// Cuts the power at every step of the journal's work and of its recovery.
#include <fmt/format.h>

#include "tests/catch.h"
#include "tests/crash/journal_fixture.h"
#include "tests/crash/power_cut.h"

using namespace millrace;
using namespace millrace::journal;
using namespace millrace::test;

namespace {

constexpr uint64_t kTickets = 120;
constexpr size_t kCutRecoveryEach = 80;  // of so many states, in one the recovery is cut, too
constexpr unsigned kSeed = 20240607;

// What must hold of the journal at a moment of the trace.
struct Promise {
  size_t trace = 0;         // from this length of the trace on
  uint64_t begun = 0;       // write() had been called for these tickets
  uint64_t committed = 0;   // and for these they had been synced
  uint64_t first_kept = 1;  // tickets below may be gone
};

struct History {
  std::vector<Op> trace;
  std::vector<Promise> promises;
};

// A life of the journal: segments of several batches, retired ones reused, sizes from one sector to
// three blocks.
class Life {
 public:
  Life(unsigned seed, FsyncMode fsync)
      : random_(seed), fsync_(fsync), writer_(begin_session(directory_, 1, kSmallSegment, fsync)) {}

  History live(uint64_t tickets) {
    for (uint64_t ticket = 1; ticket <= tickets; ++ticket) {
      write(ticket);
      if (fsync_ != FsyncMode::always && random_() % 3 == 0) sync();
      if (first_of_segment_.size() - retired_ > 3 && ticket - first_of_segment_.back() == 2)
        retire();
    }
    history_.trace = directory_.trace();
    return std::move(history_);
  }

 private:
  void promise() {
    promise_.trace = directory_.trace().size();
    if (!writer_.unsynced()) promise_.committed = promise_.begun;
    history_.promises.push_back(promise_);
  }
  void write(uint64_t ticket) {
    bool new_segment = first_of_segment_.empty() || ticket - first_of_segment_.back() >= 4;
    if (new_segment) first_of_segment_.push_back(ticket);
    history_.promises.push_back(
        {directory_.trace().size(), ticket, promise_.committed, promise_.first_kept});
    promise_.begun = ticket;
    records::Chunk chunk =
        chunk_of(ticket, random_() % 4 == 0 ? 5000 + random_() % 4000 : random_() % 600);
    REQUIRE(*writer_.write(batch_of(chunk), new_segment, WallMs()) == SegmentWriter::Outcome::done);
    promise();
  }
  void sync() {
    REQUIRE(writer_.sync().ok());
    promise();
  }
  void retire() {
    sync();
    promise_.first_kept = first_of_segment_[++retired_];
    promise();
    REQUIRE(writer_.retire_one({retired_}).ok());
  }

  std::mt19937 random_;
  const FsyncMode fsync_;
  FakeDirectory directory_;
  SegmentWriter writer_;
  std::vector<uint64_t> first_of_segment_;
  uint64_t retired_ = 0;
  Promise promise_;
  History history_;
};

// The tickets in the replay, checked against what was promised at that length of the trace.
void check_promise(const History& history, size_t at, const std::vector<uint64_t>& tickets) {
  Promise promise;
  for (const Promise& next : history.promises) {
    if (next.trace <= at) promise = next;
  }
  for (size_t i = 1; i < tickets.size(); ++i) REQUIRE(tickets[i] == tickets[i - 1] + 1);
  if (promise.committed == 0 && tickets.empty()) return;
  REQUIRE_FALSE(tickets.empty());
  REQUIRE(tickets.front() <= promise.first_kept);
  REQUIRE(tickets.back() >= promise.committed);
  REQUIRE(tickets.back() <= promise.begun);
}

struct Totals {
  size_t states = 0, recoveries_cut = 0;
};

// Cuts the power at every step of a recovery, too: the next one must find the same.
size_t cut_recovery(const Disk& disk, const std::vector<Op>& trace,
                    const std::vector<uint64_t>& tickets, std::mt19937& random) {
  size_t states = 0;
  Disk running = disk;
  for (const Op& op : trace) {
    running.apply(op);
    states += for_each_crash(running, random, [&](Disk after) {
      FakeDirectory directory(std::move(after));
      auto again = recover(directory);
      REQUIRE(again.ok());
      REQUIRE(again->tickets == tickets);
    });
  }
  return states;
}

// The start after the cut writes on, and what it writes stands behind what was there.
void check_life_goes_on(FakeDirectory& directory, std::vector<uint64_t> tickets) {
  uint64_t next = tickets.empty() ? 1 : tickets.back() + 1;
  auto writer = begin_session(directory, 2, kSmallSegment);
  write_tickets(writer, next, next + 1, 300);
  tickets.push_back(next);
  tickets.push_back(next + 1);
  FakeDirectory copy(directory.disk());
  auto replayed = recover(copy);
  REQUIRE(replayed.ok());
  REQUIRE(replayed->tickets == tickets);
}

Totals cut_everywhere(const History& history) {
  std::mt19937 random(kSeed);
  Totals totals;
  Disk running;
  for (size_t at = 0; at < history.trace.size(); ++at) {
    running.apply(history.trace[at]);
    totals.states += for_each_crash(running, random, [&](Disk after) {
      FakeDirectory directory(std::move(after));
      Disk before = directory.disk();
      auto replayed = recover(directory);
      if (!replayed) FAIL(fmt::format("step {}: {}", at, replayed.error().message));
      check_promise(history, at + 1, replayed->tickets);
      if (random() % kCutRecoveryEach == 0) {
        totals.recoveries_cut += cut_recovery(before, directory.trace(), replayed->tickets, random);
        check_life_goes_on(directory, replayed->tickets);
      }
    });
  }
  return totals;
}

void check_every_cut(unsigned seed, FsyncMode fsync) {
  History history = Life(seed, fsync).live(kTickets);
  Totals totals = cut_everywhere(history);
  fmt::print("seed {}: {} steps, {} states after a cut, {} more after a cut of the recovery\n",
             seed, history.trace.size(), totals.states, totals.recoveries_cut);
  CHECK(totals.states > 9'000 / kOneOf);
  CHECK(totals.recoveries_cut > 10'000 / kOneOf / kOneOf);
}

}  // namespace

TEST_CASE("whatever a power cut leaves, what was committed is there", "[crash]") {
  check_every_cut(kSeed, FsyncMode::always);
}

TEST_CASE("without a sync at each commit, what was synced is there, and no start is refused",
          "[crash]") {
  check_every_cut(kSeed + 1, FsyncMode::interval);
}
