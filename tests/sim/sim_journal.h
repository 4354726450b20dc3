// The journal without its thread: the same batches, writer, reader and order of work as
// common/journal/journal.cpp, but each operation reaches the disk at a time of its own, so that a
// crash can come between any two of them.
// Shape:   append, retire → one commit in flight → take_committed(), and `wake` is called
// Limits:  as the journal's; fsync is always `always`
// Errors:  as the journal's: after one nothing is committed any more
// Owns:    the directory; disk and world must outlive it. Destroying it is the process's end: what
//          had not reached the disk never will
// Threads: one
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/journal/batcher.h"
#include "common/journal/place_reader.h"
#include "common/journal/segment_writer.h"
#include "tests/sim/directory.h"

namespace millrace::sim {

class SimJournal final : public journal::Journal {
 public:
  struct Timing {
    Nanos sync = kMilli;
    uint64_t segment_bytes = 1 << 20;
  };
  SimJournal(World& world, Disk& disk, DiskTrouble& trouble, Timing timing, Random random,
             std::function<void()> wake);
  ~SimJournal() override;

  // Scans and finishes as Journal::open() does; `opened` is called once all of it is on the disk.
  // If the journal ends at `snapshot`, nothing is replayed.
  Result<journal::Recovered> open(const Replay& replay, std::optional<journal::Position> snapshot,
                                  std::function<void()> opened);
  // Commits what is queued, seals; then `closed` is called.
  void close(std::function<void()> closed);
  bool idle() const { return !busy_ && batcher_.empty() && batch_.empty() && !failure_; }

  Result<void> start(BrokerId broker, uint64_t incarnation) override;
  uint64_t append(journal::Chunk chunk, bool new_segment) override;
  void retire(SegmentId last) override;
  std::vector<journal::Committed> take_committed() override { return batcher_.take_committed(); }
  int wake_fd() const override { return -1; }
  std::optional<Error> failure() const override { return failure_; }
  bool stalled() const override { return stalled_; }
  std::string shortage() const override { return stalled_ ? "the disk is full" : ""; }
  journal::JournalStats stats() const override;
  Result<journal::Body> read(journal::Place place, size_t size) override;  // the broker never waits
  // Each read takes a time of its own, so answers overtake each other.
  void request(const journal::ReadRequest& request) override;
  std::vector<journal::ReadAnswer> take_read() override { return std::exchange(answers_, {}); }
  journal::Position end() const override { return writer_->next(); }  // after close()
  Result<void> stop() override;  // not for the simulator: close() takes its time

 private:
  using Outcome = journal::SegmentWriter::Outcome;

  void next();  // the thread's loop: what to do now
  void commit();
  void committed();
  void wait_for_space();
  bool retire_one();
  void let_through(std::function<void()> then);  // the noted operations reach the disk, one by one
  void apply(std::shared_ptr<std::vector<DiskOp>> ops, size_t at, std::function<void()> then);
  void fail(Error error);
  Nanos duration(const DiskOp& op);
  Nanos read_duration();
  // An event that does not come once this is gone.
  void after(Nanos wait, std::function<void()> action);

  World& world_;
  Disk& disk_;
  DiskTrouble& trouble_;
  const Timing timing_;
  Random random_, read_random_;
  std::function<void()> wake_;
  SimDirectory directory_;
  journal::Scan scan_;
  journal::PlaceReader reader_;
  std::optional<journal::SegmentWriter> writer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  bool busy_ = false;
  journal::Batcher batcher_;
  std::vector<journal::PendingChunk> batch_;  // that is being written
  std::vector<journal::ReadAnswer> answers_;
  bool stalled_ = false;
  std::optional<Error> failure_;
  std::function<void()> closed_;
  bool sealed_ = false;
};

}  // namespace millrace::sim
