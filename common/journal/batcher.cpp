#include "common/journal/batcher.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::journal {

Batch batch_of(std::span<const PendingChunk> chunks) {
  Batch batch;
  for (const PendingChunk& pending : chunks) {
    for (std::string_view part : pending.chunk.parts()) batch.body.push_back(part);
    batch.bytes += pending.chunk.bytes();
    batch.records += pending.chunk.records();
  }
  return batch;
}

uint64_t Batcher::append(Chunk chunk, bool new_segment) {
  pending_.push_back({++last_ticket_, std::move(chunk), new_segment});
  return last_ticket_;
}

void Batcher::retire(SegmentId last) { retirements_.push_back({last_ticket_, last}); }

std::vector<PendingChunk> Batcher::take_batch() {
  std::vector<PendingChunk> batch;
  uint64_t bytes = 0;
  while (!pending_.empty()) {
    PendingChunk& next = pending_.front();
    bytes += next.chunk.bytes();
    if (!batch.empty() && (next.new_segment || bytes > kMaxBatch)) break;
    batch.push_back(std::move(next));
    pending_.pop_front();
  }
  return batch;
}

void Batcher::committed(std::span<const PendingChunk> chunks, Place place) {
  for (const PendingChunk& pending : chunks) {
    MILLRACE_CHECK(pending.ticket > committed_ticket_);
    committed_ticket_ = pending.ticket;
    committed_.push_back({pending.ticket, place});
    place.offset += uint32_t(pending.chunk.bytes());
  }
}

bool Batcher::is_retirement_due() const {
  return retire_to_ || (!retirements_.empty() && retirements_.front().after <= committed_ticket_);
}

std::optional<SegmentId> Batcher::retirable() {
  for (; !retirements_.empty() && retirements_.front().after <= committed_ticket_;
       retirements_.pop_front())
    retire_to_ = std::max(retire_to_.value_or(SegmentId{}), retirements_.front().last);
  return retire_to_;
}

}  // namespace millrace::journal
