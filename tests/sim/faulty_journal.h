// A journal with planted faults between it and the loop; and where the oracle learns of commits.
// Shape:   forwards every call; a fault changes what is passed on, or adds a call
// Owns:    nothing; the journal and the stage must outlive it
// Threads: one
#pragma once

#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "common/journal/journal.h"
#include "tests/sim/stage.h"

namespace millrace::sim {

class FaultyJournal final : public journal::Journal {
 public:
  FaultyJournal(journal::Journal& journal, Stage& stage, Random random, std::function<void()> wake)
      : journal_(journal), stage_(stage), random_(random), wake_(std::move(wake)) {}

  Result<void> start(BrokerId broker, uint64_t incarnation) override {
    return journal_.start(broker, incarnation);
  }
  uint64_t append(journal::Chunk chunk, bool new_segment) override;
  void retire(SegmentId last) override { journal_.retire(last); }
  std::vector<journal::Committed> take_committed() override;
  int wake_fd() const override { return journal_.wake_fd(); }
  std::optional<Error> failure() const override { return journal_.failure(); }
  bool stalled() const override { return journal_.stalled(); }
  std::string shortage() const override { return journal_.shortage(); }
  journal::JournalStats stats() const override { return journal_.stats(); }
  Result<journal::Body> read(journal::Place place, size_t size) override {
    return journal_.read(place, size);
  }
  void request(const journal::ReadRequest& request) override { journal_.request(request); }
  std::vector<journal::ReadAnswer> take_read() override;
  Result<void> stop() override { return journal_.stop(); }
  journal::Position end() const override { return journal_.end(); }

  // Of what was appended and not yet reported as committed, counted apart from the loop.
  size_t uncommitted_bytes() const { return uncommitted_bytes_; }

 private:
  journal::Journal& journal_;
  Stage& stage_;
  Random random_;
  std::function<void()> wake_;
  uint64_t appended_ = 0;
  uint64_t reported_ = 0;  // as committed
  SegmentId segment_{1};
  std::deque<size_t> uncommitted_;  // bytes of each chunk, by ticket, behind reported_
  size_t uncommitted_bytes_ = 0;
};

}  // namespace millrace::sim
