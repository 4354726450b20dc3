// What the journal's disk has room for: whether new jobs are accepted, and, while they are not,
// whether live records of the oldest segment may be relocated, so that a full disk becomes free
// again as jobs end.
// Shape:   1. Below `reserve` no jobs are accepted, until 5/4 of it are free.
//          2. Relocation needs room of its own before it frees any. It leaves `for_completions`, and is done
//          only where it frees at least twice what it takes; so it never makes a full disk fuller for long.
// Units:   bytes. What is not committed yet counts as written.
// Threads: immutable
#pragma once

#include <algorithm>
#include <cstdint>

#include "broker/server/payload_store.h"
#include "common/journal/journal.h"

namespace millrace::server {

class DiskReserve {
 public:
  struct Space {
    uint64_t free = 0;
    uint64_t room = 0;         // reserved for the segment that is being written; not in `free`
    uint64_t uncommitted = 0;  // of chunks
    Space(const journal::JournalStats& stats, uint64_t bytes)
        : free(stats.disk_free), room(stats.room), uncommitted(bytes) {}
  };

  // `for_completions`: for a Checkpoint, and for what is recorded of jobs that were accepted.
  constexpr DiskReserve(uint64_t reserve, uint64_t for_completions)
      : reserve_(reserve), for_completions_(for_completions) {}

  uint64_t free_to_resume() const { return reserve_ / 4 * 5; }

  bool is_short(const Space& space, bool was_short) const {
    const uint64_t beyond_room = space.uncommitted - std::min(space.uncommitted, space.room);
    return space.free < (was_short ? free_to_resume() : reserve_) + beyond_room;
  }

  // While it is short. Each segment begins with a Checkpoint of about `checkpoint` bytes.
  bool may_relocate(const Space& space, const PayloadStore::Oldest& oldest, uint64_t segment_bytes,
                    uint64_t checkpoint) const {
    const uint64_t freed = oldest.segments * (segment_bytes - std::min(segment_bytes, checkpoint));
    return oldest.bytes <= freed / 2 &&
           space.free + space.room >= for_completions_ + oldest.bytes + space.uncommitted;
  }

 private:
  uint64_t reserve_;
  uint64_t for_completions_;
};

}  // namespace millrace::server
