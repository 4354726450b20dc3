// One small value per live job, found by its id: ids count up, so a table beats a hash map.
// Shape:   chunks of kSlots values; a chunk is freed when its last value is erased
// Limits:  sizeof(Value) bytes a job, one chunk's slack for each region of ids that has live jobs, and
//          64 bytes a chunk: nothing for ids that have ended, however many lie between. Chunks are small,
//          since one job in each costs all of them: 8 KiB of 512 jobs, where 4,096 took 66 KiB
// Owns:    the values. find()'s pointer holds until the value is erased
// Threads: one
#pragma once

#include <tsl/robin_map.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "broker/core/state/memory.h"
#include "common/base/check.h"
#include "common/base/ids.h"
#include "common/protocol/messages.h"

namespace millrace::core {

template <typename Value>
class SlotTable {
 public:
  static constexpr uint64_t kSlots = 512;

  Value& insert(JobId id, const Value& value) {
    Chunk* chunk = chunk_at(id.value / kSlots);
    if (!chunk) {
      chunk = (chunks_[id.value / kSlots] = std::make_unique<Chunk>()).get();
      recent_index_ = id.value / kSlots;
      recent_ = chunk;
    }
    uint64_t slot = id.value % kSlots;
    MILLRACE_CHECK(!chunk->used[slot]);
    chunk->used[slot] = true;
    ++chunk->live;
    ++size_;
    return chunk->values[slot] = value;
  }

  Value* find(JobId id) { return const_cast<Value*>(std::as_const(*this).find(id)); }
  const Value* find(JobId id) const {
    const Chunk* chunk = chunk_at(id.value / kSlots);
    const uint64_t slot = id.value % kSlots;
    return chunk && chunk->used[slot] ? &chunk->values[slot] : nullptr;
  }

  void erase(JobId id) {
    Chunk* chunk = chunk_at(id.value / kSlots);
    MILLRACE_CHECK(chunk && chunk->used[id.value % kSlots]);
    chunk->used[id.value % kSlots] = false;
    --size_;
    if (--chunk->live > 0) return;
    recent_ = nullptr;
    chunks_.erase(id.value / kSlots);
  }

  SlotTable() { chunks_.min_load_factor(0.1f); }  // else it stays as large as it ever was

  uint64_t size() const { return size_; }
  uint64_t memory_bytes() const {
    return chunks_.size() * kChunkBytes + chunks_.bucket_count() * kBucketBytes;
  }

  // visit(id, value), in the order of ids; visit may erase the value.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (uint64_t index : indices(0, UINT64_MAX)) each_of(*this, index, 0, UINT64_MAX, visit);
  }
  // Of those in the range; what it costs does not depend on how many ids the range names.
  template <typename Visit>
  void for_each_in(protocol::JobRange range, Visit&& visit) {
    if (range.count == 0) return;
    const uint64_t first = range.first.value, last = first + (range.count - 1);
    const uint64_t from = first / kSlots, to = last / kSlots;
    if (to - from <= 4 || to - from < chunks_.size() / 16) {
      for (uint64_t index = from; index <= to; ++index) each_of(*this, index, first, last, visit);
    } else {
      for (uint64_t index : indices(from, to)) each_of(*this, index, first, last, visit);
    }
  }

  // visit(id, value), in the order of ids from `first` on, until it returns false; it may not
  // erase.
  template <typename Visit>
  void visit_from(JobId first, Visit&& visit) const {
    for (uint64_t index : indices(first.value / kSlots, UINT64_MAX)) {
      const Chunk& chunk = *chunk_at(index);
      for (uint64_t id = std::max(first.value, index * kSlots); id / kSlots == index; ++id)
        if (chunk.used[id % kSlots] && !visit(JobId{id}, chunk.values[id % kSlots])) return;
    }
  }
  // The same below `end`, as long as there is work left: a slot costs 1, and visit may take more of
  // it. Returns where to go on; nothing: there are no more.
  template <typename Visit>
  std::optional<JobId> visit_some(JobId first, JobId end, uint64_t* work, Visit&& visit) const {
    for (uint64_t id = first.value; id < end.value;) {
      if (*work == 0) return JobId{id};
      const Chunk* chunk = chunk_at(id / kSlots);
      if (!chunk) {
        id = next_index(id / kSlots + 1, end.value / kSlots + 1, work) * kSlots;
        continue;
      }
      for (const uint64_t next = std::min((id / kSlots + 1) * kSlots, end.value);
           id<next&& * work> 0; ++id) {
        --*work;
        if (chunk->used[id % kSlots] && !visit(JobId{id}, chunk->values[id % kSlots]))
          return JobId{id + 1};
      }
    }
    return std::nullopt;
  }

 private:
  struct Chunk {
    std::array<Value, kSlots> values;
    std::bitset<kSlots> used;
    uint64_t live = 0;
  };
  using Chunks = tsl::robin_map<uint64_t, std::unique_ptr<Chunk>>;

 public:
  static constexpr uint64_t kChunkBytes = allocation_bytes(sizeof(Chunk));

 private:
  static constexpr uint64_t kBucketBytes = sizeof(typename Chunks::value_type) + 8;

  // Ids come in nearly ascending order, so most of them are in the chunk of the one before.
  Chunk* chunk_at(uint64_t index) const {
    if (recent_ && recent_index_ == index) return recent_;
    auto found = chunks_.find(index);
    if (found == chunks_.end()) return nullptr;
    recent_index_ = index;
    return recent_ = found->second.get();
  }
  // The first chunk from here on, or `end`, or how far the work has led. Some neighbours are tried
  // one by one; across a wide gap, such as years of ended jobs leave, the whole table is searched,
  // if that takes no longer than some 0.2 ms.
  uint64_t next_index(uint64_t index, uint64_t end, uint64_t* work) const {
    constexpr uint64_t kNeighbours = 64, kSearched = 1 << 17, kBucketsPerWork = 16;
    for (uint64_t tried = 0; index<end&& * work> 0; ++tried, ++index, --*work) {
      if (chunks_.contains(index)) return index;
      if (tried != kNeighbours || chunks_.bucket_count() > kSearched) continue;
      for (const auto& [found, chunk] : chunks_)
        if (found >= index) end = std::min(end, found);
      *work -= std::min(*work, chunks_.bucket_count() / kBucketsPerWork);
      return end;
    }
    return index;
  }
  std::vector<uint64_t> indices(uint64_t from, uint64_t to) const {
    std::vector<uint64_t> found;
    for (const auto& [index, chunk] : chunks_)
      if (index >= from && index <= to) found.push_back(index);
    std::sort(found.begin(), found.end());
    return found;
  }
  template <typename Self, typename Visit>
  static void each_of(Self& self, uint64_t index, uint64_t first, uint64_t last, Visit& visit) {
    if (!self.chunk_at(index)) return;
    const uint64_t begin = index * kSlots;
    const uint64_t end = std::min(last, begin + (kSlots - 1));
    for (uint64_t id = std::max(first, begin); id <= end; ++id)
      if (auto* value = self.find(JobId{id})) visit(JobId{id}, *value);
  }

  Chunks chunks_;
  mutable uint64_t recent_index_ = 0;
  mutable Chunk* recent_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace millrace::core
