#include "broker/server/payload_store.h"

#include <algorithm>

#include "common/check.h"

namespace millrace::server {

void PayloadStore::accept(const records::Accepted& record, std::shared_ptr<const void> owner,
                          uint64_t ticket, size_t offset) {
  Group group{record.payloads, std::move(owner), record.payloads.size(),
              record.payload_array.size() + record.payloads.size() * sizeof(std::string_view)};
  bytes_in_memory_ += group.bytes;
  unplaced_.push_back({ticket, record.first_job, offset, record.payload_array.data()});
  groups_.emplace_hint(groups_.end(), record.first_job, std::move(group));
}

void PayloadStore::placed(uint64_t ticket, journal::Place chunk) {
  tail_ = chunk;
  while (!unplaced_.empty() && unplaced_.front().ticket <= ticket) {
    const Unplaced unplaced = unplaced_.front();
    unplaced_.pop_front();
    auto group = groups_.find(unplaced.first);
    put(unplaced.first, group->second.payloads, unplaced.array,
        {chunk.segment, chunk.offset + uint32_t(unplaced.offset)});
    // The newest go first when memory is short: the oldest are the next to be asked for.
    if (bytes_in_memory_ > budget_) forget(group);
  }
  for (protocol::JobRange jobs : std::exchange(retired_early_, {})) retire(jobs);
}

void PayloadStore::restore(const records::Accepted& record, journal::Place payload_array) {
  put(record.first_job, record.payloads, record.payload_array.data(), payload_array);
}

void PayloadStore::put(JobId first, const std::vector<std::string_view>& payloads,
                       const char* array, journal::Place place) {
  for (size_t i = 0; i < payloads.size(); ++i)
    slots_.insert({first.value + i}, {uint32_t(place.segment.value),
                                      place.offset + uint32_t(payloads[i].data() - array),
                                      uint32_t(payloads[i].size())});
  live_[place.segment.value] += payloads.size();
}

PayloadStore::Groups::iterator PayloadStore::group_of(JobId job) {
  auto holds = [&](Groups::iterator group) {
    return group != groups_.end() && job >= group->first &&
           job.value - group->first.value < group->second.payloads.size();
  };
  if (holds(recent_)) return recent_;
  auto next = groups_.upper_bound(job);
  if (next == groups_.begin() || !holds(std::prev(next))) return groups_.end();
  return recent_ = std::prev(next);
}

void PayloadStore::forget(Groups::iterator group) {
  if (recent_ == group) recent_ = groups_.end();
  bytes_in_memory_ -= group->second.bytes;
  groups_.erase(group);
}

Result<PayloadStore::Bytes> PayloadStore::payload(JobId job) {
  if (auto group = group_of(job); group != groups_.end())
    return Bytes{group->second.payloads[job.value - group->first.value], nullptr};
  const Slot* slot = slots_.find(job);
  MILLRACE_CHECK(slot);
  const journal::Place at{{slot->segment}, slot->offset};
  const bool in_block = block_at_.segment == at.segment && block_at_.offset <= at.offset &&
                        at.offset - block_at_.offset + slot->size <= block_->size();
  if (!in_block) {
    // What lies behind the last commit will still be written: it must not get into the block.
    size_t ahead = kReadAhead;
    if (at.segment == tail_.segment)
      ahead = tail_.offset > at.offset ? std::min<size_t>(ahead, tail_.offset - at.offset) : 0;
    std::string bytes;
    if (auto read = journal_->read(at, std::max<size_t>(slot->size, ahead), &bytes); !read)
      return read.error();
    if (bytes.size() < slot->size)
      return Error{ExitCode::io,
                   "the journal ends before the payload of job " + std::to_string(job.value)};
    block_at_ = at;
    block_ = std::make_shared<const std::string>(std::move(bytes));
  }
  return Bytes{std::string_view(*block_).substr(at.offset - block_at_.offset, slot->size), block_};
}

void PayloadStore::retire(protocol::JobRange jobs) {
  for (uint64_t id = jobs.first.value; id < jobs.first.value + jobs.count; ++id) {
    const Slot* slot = slots_.find({id});
    if (!slot) {  // cancelled before its commit; or an elder, known by its number only
      if (!unplaced_.empty() && JobId{id} >= unplaced_.front().first)
        retired_early_.push_back({{id}, 1});
      continue;
    }
    --live_[slot->segment];
    slots_.erase({id});
    auto group = group_of({id});
    if (group != groups_.end() && --group->second.live == 0) forget(group);
  }
}

std::optional<SegmentId> PayloadStore::retirable(SegmentId current) {
  while (!live_.empty() && live_.begin()->first < current.value && live_.begin()->second == 0)
    live_.erase(live_.begin());
  uint64_t oldest_needed =
      live_.empty() ? current.value : std::min(current.value, live_.begin()->first);
  if (oldest_needed == 0 || oldest_needed - 1 <= retired_.value) return std::nullopt;
  return retired_ = {oldest_needed - 1};
}

}  // namespace millrace::server
