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
  while (!unplaced_.empty() && unplaced_.front().ticket <= ticket) {
    const Unplaced unplaced = unplaced_.front();
    unplaced_.pop_front();
    auto group = groups_.find(unplaced.first);
    put(unplaced.first, group->second.payloads, unplaced.array,
        {chunk.segment, chunk.offset + uint32_t(unplaced.offset)});
    // The newest go first when memory is short: the oldest are the next to be asked for.
    if (bytes_in_memory_ > budget_) forget(group);
  }
  for (const auto& early : std::exchange(settled_early_, {})) settle(early.job, early.result_bytes);
  for (protocol::JobRange jobs : std::exchange(retired_early_, {})) retire(jobs);
  for (; !carried_.empty() && carried_.front().ticket <= ticket; carried_.pop_front()) {
    const Carry& carry = carried_.front();  // it may have ended meanwhile
    if (const Slot* slot = slots_.find(carry.job)) {
      put_at(carry.job, {chunk.segment, chunk.offset + uint32_t(carry.offset)}, slot->size);
    } else if (auto result = results_.find(carry.job); result != results_.end()) {
      put_result(carry.job, {uint32_t(chunk.segment.value), result->second.size});
    }
  }
}

void PayloadStore::restore(const records::Accepted& record, journal::Place payload_array) {
  put(record.first_job, record.payloads, record.payload_array.data(), payload_array);
}

void PayloadStore::restore(const records::Carried& record, journal::Place payload) {
  put_at(record.job, payload, record.payload.size());
}

void PayloadStore::restore(const records::Kept& record, SegmentId segment) {
  put_result(record.job, {uint32_t(segment.value), uint32_t(record.result.size())});
}

void PayloadStore::restore(JobId job, KeptResult result) { put_result(job, result); }

void PayloadStore::carry(JobId job, uint64_t ticket, size_t offset) {
  carried_.push_back({ticket, job, offset});
}

void PayloadStore::put(JobId first, const std::vector<std::string_view>& payloads,
                       const char* array, journal::Place place) {
  for (size_t i = 0; i < payloads.size(); ++i)
    put_at({first.value + i}, {place.segment, place.offset + uint32_t(payloads[i].data() - array)},
           payloads[i].size());
}

void PayloadStore::put_at(JobId job, journal::Place place, size_t size) {
  const Slot slot{uint32_t(place.segment.value), place.offset, uint32_t(size)};
  if (Slot* older = slots_.find(job)) {
    leave(older->segment, older->size);
    *older = slot;
  } else {
    slots_.insert(job, slot);
  }
  enter(slot.segment, size);
  name(job, slot.segment);
}

void PayloadStore::put_result(JobId job, KeptResult result) {
  auto [known, is_new] = results_.try_emplace(job, result);
  if (!is_new) {
    leave(known->second.segment, known->second.size);
    known.value() = result;
  }
  enter(result.segment, result.size);
  name(job, result.segment);
}

void PayloadStore::enter(uint32_t segment, uint64_t size) {
  ++segments_[segment].live;
  live_bytes_ += size;
}

void PayloadStore::name(JobId job, uint32_t segment) {
  auto& jobs = segments_.at(segment).jobs;
  if (!jobs.empty() && jobs.back().first.value + jobs.back().count == job.value) {
    ++jobs.back().count;
  } else {
    jobs.push_back({job, 1});
  }
}

std::vector<PayloadStore::Run> PayloadStore::runs() const {
  std::vector<Run> runs;
  slots_.for_each([&](JobId id, const Slot& slot) {
    if (!runs.empty()) {
      Run& run = runs.back();
      const uint32_t stride =
          run.count > 1 ? run.stride : slot.offset - run.offset;  // the second one says it
      if (run.first_job + run.count == id.value && run.segment == slot.segment &&
          run.size == slot.size && slot.offset > run.offset &&
          slot.offset == run.offset + uint64_t(stride) * run.count) {
        run.stride = stride;
        ++run.count;
        return;
      }
    }
    runs.push_back({id.value, 1, slot.segment, slot.offset, slot.size, 0, 0});
  });
  return runs;
}

void PayloadStore::restore(const Run& run) {
  for (uint32_t i = 0; i < run.count; ++i)
    put_at({run.first_job + i}, {{run.segment}, run.offset + run.stride * i}, run.size);
}

void PayloadStore::leave(uint32_t segment, uint64_t size) {
  --segments_.at(segment).live;
  live_bytes_ -= size;
}

bool PayloadStore::stands_in(JobId job, uint64_t segment) const {
  if (const Slot* slot = slots_.find(job)) return slot->segment == segment;
  auto result = results_.find(job);
  return result != results_.end() && result->second.segment == segment;
}

std::vector<JobId> PayloadStore::stragglers(SegmentId current, size_t bytes) {
  std::vector<JobId> found;
  if (segments_.empty() || segments_.begin()->first >= current.value) return found;
  auto& [id, segment] = *segments_.begin();
  size_t size = 0;
  for (; segment.named < segment.jobs.size() && size < bytes;) {
    protocol::JobRange& run = segment.jobs[segment.named];
    for (; run.count > 0 && size < bytes; ++run.first.value, --run.count) {
      if (!stands_in(run.first, id)) continue;
      found.push_back(run.first);
      const Slot* slot = slots_.find(run.first);
      size += (slot ? slot->size : results_.at(run.first).size) + kCarriedFields;
    }
    if (run.count == 0) ++segment.named;
  }
  return found;
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
  if (slot->size == 0) return Bytes{};
  const journal::Place at{{slot->segment}, slot->offset};
  auto body = body_of(at, slot->size);
  if (!body) return body.error();
  return Bytes{body->part(at, slot->size), body->owner};
}

size_t PayloadStore::size_of(JobId job) {
  if (const Slot* slot = slots_.find(job)) return slot->size;
  auto group = group_of(job);
  return group == groups_.end() ? 0 : group->second.payloads[job.value - group->first.value].size();
}

Result<journal::Body> PayloadStore::body_of(journal::Place at, size_t size) {
  auto found = std::find_if(read_back_.begin(), read_back_.end(),
                            [&](const journal::Body& body) { return body.holds(at, size); });
  if (found != read_back_.end()) {
    std::rotate(found, found + 1, read_back_.end());
    return read_back_.back();
  }
  auto body = journal_->read(at, size);
  if (!body) return body;
  size_t bytes = body->bytes.size();
  for (const journal::Body& kept : read_back_) bytes += kept.bytes.size();
  auto end = read_back_.begin();
  for (; end != read_back_.end() && bytes > kReadBack; ++end) bytes -= end->bytes.size();
  read_back_.erase(read_back_.begin(), end);
  read_back_.push_back(*body);
  return body;
}

void PayloadStore::retire(protocol::JobRange jobs) {
  for (uint64_t id = jobs.first.value; id < jobs.first.value + jobs.count; ++id) {
    if (const Slot* slot = slots_.find({id})) {
      retire_payload({id}, *slot);
    } else if (auto result = results_.find({id}); result != results_.end()) {
      leave(result->second.segment, result->second.size);
      results_.erase(result);
    } else if (!unplaced_.empty() && JobId{id} >= unplaced_.front().first) {
      retired_early_.push_back({{id}, 1});  // cancelled before its commit
    }                                       // else an elder, known by its number only
  }
}

void PayloadStore::retire_payload(JobId job, const Slot& slot) {
  leave(slot.segment, slot.size);
  slots_.erase(job);
  auto group = group_of(job);
  if (group != groups_.end() && --group->second.live == 0) forget(group);
}

void PayloadStore::settle(JobId job, uint64_t result_bytes) {
  const Slot* slot = slots_.find(job);
  if (!slot) {  // a worker that made up its lease: the commit is under way
    settled_early_.push_back({job, result_bytes});
    return;
  }
  const uint32_t segment = slot->segment;
  retire_payload(job, *slot);
  enter(segment, result_bytes);
  results_[job] = {segment, uint32_t(result_bytes)};
}

void PayloadStore::follow(core::State& state) {
  for (const auto& settled : state.take_settled()) settle(settled.job, settled.result_bytes);
  for (protocol::JobRange jobs : state.take_retired()) retire(jobs);
}

std::optional<SegmentId> PayloadStore::retirable(SegmentId current) {
  while (!segments_.empty() && segments_.begin()->first < current.value &&
         segments_.begin()->second.live == 0)
    segments_.erase(segments_.begin());
  uint64_t oldest_needed = std::min(current, oldest_segment(current)).value;
  if (oldest_needed == 0 || oldest_needed - 1 <= retired_.value) return std::nullopt;
  return retired_ = {oldest_needed - 1};
}

}  // namespace millrace::server
