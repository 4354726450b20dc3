// One small value per live job, found by its id: ids count up, so a table beats a hash map.
// Shape:   chunks of kSlots values; a chunk is freed when its last value is erased
// Limits:  sizeof(Value) bytes a job, and one chunk's slack; the directory costs 16 bytes a chunk
//          between the oldest and the newest live job
// Owns:    the values. find()'s pointer holds until the value is erased
// Threads: one
#pragma once

#include <array>
#include <bitset>
#include <deque>
#include <memory>
#include <utility>

#include "common/check.h"
#include "common/ids.h"

namespace millrace::core {

template <typename Value>
class SlotTable {
 public:
  static constexpr uint64_t kSlots = 4096;

  Value& insert(JobId id, const Value& value) {
    uint64_t index = id.value / kSlots;
    if (chunks_.empty()) base_ = index;
    for (; index < base_; --base_) chunks_.emplace_front();
    while (index - base_ >= chunks_.size()) chunks_.emplace_back();
    auto& chunk = chunks_[index - base_];
    if (!chunk) chunk = std::make_unique<Chunk>();
    uint64_t slot = id.value % kSlots;
    MILLRACE_CHECK(!chunk->used[slot]);
    chunk->used[slot] = true;
    ++chunk->live;
    ++size_;
    return chunk->values[slot] = value;
  }

  Value* find(JobId id) { return const_cast<Value*>(std::as_const(*this).find(id)); }
  const Value* find(JobId id) const {
    uint64_t index = id.value / kSlots;
    if (index < base_ || index - base_ >= chunks_.size()) return nullptr;
    const auto& chunk = chunks_[index - base_];
    uint64_t slot = id.value % kSlots;
    return chunk && chunk->used[slot] ? &chunk->values[slot] : nullptr;
  }

  void erase(JobId id) {
    auto& chunk = chunks_[id.value / kSlots - base_];
    chunk->used[id.value % kSlots] = false;
    --size_;
    if (--chunk->live > 0) return;
    chunk.reset();
    for (; !chunks_.empty() && !chunks_.front(); ++base_) chunks_.pop_front();
  }

  uint64_t size() const { return size_; }

  // visit(id, value), in the order of ids.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (uint64_t i = 0; i < chunks_.size(); ++i) {
      if (!chunks_[i]) continue;
      for (uint64_t slot = 0; slot < kSlots; ++slot)
        if (chunks_[i]->used[slot])
          visit(JobId{(base_ + i) * kSlots + slot}, chunks_[i]->values[slot]);
    }
  }

 private:
  struct Chunk {
    std::array<Value, kSlots> values;
    std::bitset<kSlots> used;
    uint64_t live = 0;
  };
  std::deque<std::unique_ptr<Chunk>> chunks_;
  uint64_t base_ = 0;
  uint64_t size_ = 0;
};

}  // namespace millrace::core
