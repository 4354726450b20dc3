// A directory that keeps submissions while their brokers are away, so that neither the death of the
// producer nor that of the broker loses one or makes two of it (docs/SPOOL.md).
// Shape:   open() → a spool queue for each broker; run() and producer() name what the session sends
// Limits:  max_bytes of submissions without an answer, over all spool queues: has_room() tells, nothing is
//          refused here
// Errors:  open(): 73 can't create, or locked by the process that is named; 78 submissions for a
//          broker that has no spool queue, or two brokers with one spool queue's name; 65 damage, foreign files
//          or another version; 74 I/O
// Owns:    the directory's lock, and the spool queues
// Threads: one
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "producer/spool/place.h"
#include "producer/spool/spool_queue.h"

namespace millrace::producer {

struct SpoolOptions {
  std::string directory;
  std::vector<std::string> spool_queues;  // one for each broker, as its authority
  uint64_t max_bytes = uint64_t{1} << 30;
  // A spool is empty for most of its life, so it reserves less than a broker's journal.
  uint64_t segment_bytes = 16 << 20;
};

class Spool {
 public:
  // What a submission takes beside its payload and key, so that empty ones are not free.
  static constexpr uint64_t kJobOverhead = 64;

  static Result<std::unique_ptr<Spool>> open(const SpoolOptions& options);
  // Over any directories: tests bring their own.
  static Result<std::unique_ptr<Spool>> open_at(std::unique_ptr<SpoolPlace> place,
                                                const SpoolOptions& options);

  Uuid producer() const { return identity_.producer; }  // of this directory, for good
  // Which open of the directory this is, from 1. Sequences of a run are run << 40 | number
  // (producer/session/rounds.h, seq_of), so that none is ever used twice.
  uint64_t run() const { return identity_.run; }

  size_t spool_queues() const { return spool_queues_.size(); }
  SpoolQueue& spool_queue(size_t index) { return *spool_queues_.at(index); }

  // Within the limit, and the disk is not full.
  bool has_room(uint64_t jobs, uint64_t bytes) const;
  // What was put last can't be written; it is tried again until there is room.
  bool disk_full() const;
  // Without an answer, over all spool queues.
  uint64_t jobs() const;
  uint64_t bytes() const;
  // Of these what is not on disk yet, and so in memory too.
  uint64_t unsafe_bytes() const;

  // Commits what is queued, and seals; take_safe() may be called once more. With a full disk, what
  // was not yet called safe is given up; so is all of it if a Spool ends without stop().
  Result<void> stop();

 private:
  Spool(std::unique_ptr<SpoolPlace> place, const SpoolIdentity& identity, uint64_t max_bytes)
      : place_(std::move(place)), identity_(identity), max_bytes_(max_bytes) {}

  const std::unique_ptr<SpoolPlace> place_;
  const SpoolIdentity identity_;
  const uint64_t max_bytes_;
  std::vector<std::unique_ptr<SpoolQueue>> spool_queues_;
};

}  // namespace millrace::producer
