// Payloads on their way back from the journal, so that the loop never waits for the disk: what is
// being read, and what was read lately.
// Shape:   request() → the journal reads in a thread of its own, and wakes the loop → take() → find()
//          1. What came with the last take() is there until the next: a read serves the round behind
//          it, whatever else is read. Before, the least recently used goes first.
//          2. A segment that is being read is needed: oldest_segment().
// Units:   bytes
// Limits:  ReadBackLimits, and what one take() brings beyond them: a batch of each read under way
// Errors:  take() fails if the journal can't be read, or is damaged, where a payload still is. After a
//          shortage of descriptors or memory the payload is just not there yet: take_shortage()
// Owns:    shares in what was read; the journal must outlive it
// Threads: one
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/journal/journal.h"

namespace millrace::server {

struct ReadBackLimits {
  size_t bytes = 32 << 20;   // of what was read
  size_t bodies = 64;        // likewise: a search looks at each
  size_t reads = 8;          // under way; fewer for what is not needed yet
  uint32_t ahead = 1 << 20;  // bytes of the journal that one read is to bring
};

class ReadBack {
 public:
  // How much a read may be put off: what is only needed next leaves room for what is needed now,
  // and relocation always finds room, or the journal would grow while jobs wait for the disk.
  enum class Need { next, now, relocation };

  explicit ReadBack(ReadBackLimits limits) : limits_(limits) {}
  void set_journal(journal::Journal* journal) { journal_ = journal; }
  const ReadBackLimits& limits() const { return limits_; }

  // The job's payload is wanted, and what follows it in its segment up to `until`. Does nothing
  // while too much is under way: whoever still wants it asks again in the round after the next
  // take().
  void request(JobId job, journal::Place at, uint32_t size, uint32_t until, Need need);
  bool is_full(Need need) const { return reading_.size() >= most_reads(need); }
  // Whether the answer of a request will bring it, unless it stops short.
  bool is_being_read(journal::Place at, uint32_t size) const;
  // `is_at` says whether the job's payload is (still) at that place.
  Result<void> take(const std::function<bool(JobId, journal::Place)>& is_at);

  // What was short at the last take(), for the log.
  std::optional<std::string> take_shortage() { return std::exchange(shortage_, std::nullopt); }

  struct Found {
    const journal::Body* body = nullptr;
    bool is_first = false;  // nothing of it was asked for before
  };
  // Holds until take() or forget().
  Found find(journal::Place at, uint32_t size);
  const journal::Body* peek(journal::Place at, uint32_t size) const;
  // Segments before this one are retired.
  void forget(SegmentId oldest);

  // What is being read.
  std::optional<SegmentId> oldest_segment() const;
  uint64_t bytes() const;  // of what was read, and of what is to be read

 private:
  struct Reading {
    uint64_t number = 0;
    JobId job;
    journal::Place at;
    uint32_t size = 0;
    uint32_t until = 0;
  };
  struct Kept {
    journal::Body body;
    bool is_used = false;
  };

  size_t most_reads(Need need) const;
  void evict(size_t arriving);

  const ReadBackLimits limits_;
  journal::Journal* journal_ = nullptr;
  uint64_t last_number_ = 0;
  std::optional<std::string> shortage_;
  std::vector<Reading> reading_;
  std::vector<Kept> kept_;  // the last used at the end
};

}  // namespace millrace::server
