#include "broker/server/payload_store.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::server {

void PayloadStore::accept(const records::Accepted& record, std::shared_ptr<const void> owner,
                          uint64_t ticket, size_t offset) {
  Group group{record.payloads, std::move(owner), record.payloads.size(),
              record.payload_array.size() + record.payloads.size() * sizeof(std::string_view)};
  bytes_in_memory_ += group.bytes;
  uncommitted_.push_back({ticket, record.first_job, offset, record.payload_array.data()});
  groups_.emplace_hint(groups_.end(), record.first_job, std::move(group));
}

void PayloadStore::placed(uint64_t ticket, journal::Place chunk) {
  while (!uncommitted_.empty() && uncommitted_.front().ticket <= ticket) {
    const Uncommitted uncommitted = uncommitted_.front();
    uncommitted_.pop_front();
    auto group = groups_.find(uncommitted.first);
    put(uncommitted.first, group->second.payloads, uncommitted.array,
        {chunk.segment, chunk.offset + uint32_t(uncommitted.offset)});
    // The newest go first when memory is short: the oldest are the next to be asked for.
    if (bytes_in_memory_ > budget_) forget(group);
  }
  for (const auto& early : std::exchange(settled_early_, {})) settle(early.job, early.result_bytes);
  for (protocol::JobRange jobs : std::exchange(retired_early_, {})) retire(jobs);
  for (; !relocated_.empty() && relocated_.front().ticket <= ticket; relocated_.pop_front()) {
    const Relocation& moved = relocated_.front();  // it may have ended meanwhile
    if (const Slot* slot = slots_.find(moved.job)) {
      put_at(moved.job, {chunk.segment, chunk.offset + uint32_t(moved.offset)}, slot->size);
    } else if (auto result = results_.find(moved.job); result != results_.end()) {
      put_result(moved.job, {uint32_t(chunk.segment.value), result->second.size});
    }
  }
}

void PayloadStore::restore(const records::Accepted& record, journal::Place payload_array) {
  put(record.first_job, record.payloads, record.payload_array.data(), payload_array);
}

void PayloadStore::restore(const records::Relocated& record, journal::Place payload) {
  put_at(record.job, payload, record.payload.size());
}

void PayloadStore::restore(const records::ResultRetained& record, SegmentId segment) {
  put_result(record.job, {uint32_t(segment.value), uint32_t(record.result.size())});
}

void PayloadStore::restore(JobId job, RetainedResult result) { put_result(job, result); }

void PayloadStore::relocate(JobId job, uint64_t ticket, size_t offset) {
  relocated_.push_back({ticket, job, offset});
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

void PayloadStore::put_result(JobId job, RetainedResult result) {
  auto [known, is_new] = results_.try_emplace(job, result);
  if (!is_new) {
    leave(known->second.segment, known->second.size);
    known.value() = result;
  }
  enter(result.segment, result.size);
  name(job, result.segment);
}

void PayloadStore::enter(uint32_t segment, uint64_t size) {
  Segment& into = segments_[segment];
  ++into.live;
  into.bytes += size;
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
  Segment& from = segments_.at(segment);
  --from.live;
  from.bytes -= size;
  live_bytes_ -= size;
}

bool PayloadStore::stands_in(JobId job, uint64_t segment) const {
  if (const Slot* slot = slots_.find(job)) return slot->segment == segment;
  auto result = results_.find(job);
  return result != results_.end() && result->second.segment == segment;
}

PayloadStore::Oldest PayloadStore::oldest(SegmentId current) const {
  auto holds_any = [](const auto& entry) { return entry.second.live > 0; };
  const auto first = std::find_if(segments_.begin(), segments_.end(), holds_any);
  if (first == segments_.end() || first->first >= current.value) return {};
  const auto next = std::find_if(std::next(first), segments_.end(), holds_any);
  const uint64_t end =
      next == segments_.end() ? current.value : std::min<uint64_t>(next->first, current.value);
  const auto& [id, segment] = *first;
  return {segment.live, segment.bytes + segment.live * kRelocatedFields, end - id};
}

std::vector<JobId> PayloadStore::oldest_live_jobs(SegmentId current, size_t bytes) {
  std::vector<JobId> found;
  if (segments_.empty() || segments_.begin()->first >= current.value) return found;
  auto& [id, segment] = *segments_.begin();
  size_t size = 0;
  for (; segment.named < segment.jobs.size() && size < bytes;) {
    protocol::JobRange& run = segment.jobs[segment.named];
    for (; run.count > 0 && size < bytes; ++run.first.value, --run.count) {
      if (!stands_in(run.first, id)) continue;
      const Slot* slot = slots_.find(run.first);
      if (slot && !fetch(run.first, ReadBack::Need::relocation)) return found;
      found.push_back(run.first);
      size += (slot ? slot->size : results_.at(run.first).size) + kRelocatedFields;
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

bool PayloadStore::fetch(JobId job, ReadBack::Need need) {
  const Slot* slot = slots_.find(job);
  if (!slot || slot->size == 0) return true;  // its frame has it until it is placed
  if (auto found = read_back_.find(slot->place(), slot->size); found.body) {
    if (found.is_first) read_ahead(job, *found.body);
    return true;
  }
  if (group_of(job) != groups_.end()) return true;
  request(job, *slot, need);
  return false;
}

// With what follows it, up to a job that lies near enough, as far as a few looks find one. Farther
// when jobs go in the order in which they lie there.
void PayloadStore::request(JobId job, const Slot& slot, ReadBack::Need need) {
  const uint64_t ahead = read_back_.limits().ahead;
  const uint64_t most = slot.offset + (need == ReadBack::Need::next ? 4 * ahead : ahead);
  uint32_t until = slot.offset + slot.size;
  for (uint64_t step = 1; step <= kLookAhead; step *= 2) {
    const Slot* next = slots_.find({job.value + step});
    if (!next) continue;
    const uint32_t end = next->offset + next->size;
    if (next->segment != slot.segment || next->offset < slot.offset || end > most) break;
    until = std::max(until, end);
  }
  read_back_.request(job, slot.place(), slot.size, until, need);
}

// What was read comes into use: what lies behind it is needed next.
void PayloadStore::read_ahead(JobId job, const journal::Body& body) {
  const auto next = first_beyond(job, body);
  if (next && !is_in_memory(*next)) request(*next, *slots_.find(*next), ReadBack::Need::next);
}

// The next job whose payload is not in what was read, as far as a few looks find one.
std::optional<JobId> PayloadStore::first_beyond(JobId job, const journal::Body& body) const {
  auto is_beyond = [&](uint64_t id) {
    const Slot* slot = slots_.find({id});
    return slot && slot->size > 0 && !body.holds(slot->place(), slot->size);
  };
  uint64_t inside = job.value, step = 1;
  for (; step <= kLookAhead && !is_beyond(inside + step); step *= 2) inside += step;
  if (step > kLookAhead) return std::nullopt;
  uint64_t beyond = inside + step;
  while (beyond - inside > 1) {
    const uint64_t middle = inside + (beyond - inside) / 2;
    (is_beyond(middle) ? beyond : inside) = middle;
  }
  return JobId{beyond};
}

bool PayloadStore::is_in_memory(JobId job) {
  const Slot* slot = slots_.find(job);
  return !slot || slot->size == 0 || read_back_.peek(slot->place(), slot->size) ||
         group_of(job) != groups_.end();
}

bool PayloadStore::is_outstanding(JobId job) const {
  const Slot* slot = slots_.find(job);
  return slot && (read_back_.is_full(ReadBack::Need::now) ||
                  read_back_.is_being_read(slot->place(), slot->size));
}

Result<void> PayloadStore::take_read() {
  return read_back_.take([&](JobId job, journal::Place at) {
    const Slot* slot = slots_.find(job);
    return slot && slot->place() == at;
  });
}

PayloadStore::Bytes PayloadStore::payload(JobId job) {
  const Slot* slot = slots_.find(job);
  if (slot && slot->size == 0) return {};
  const journal::Body* body = slot ? read_back_.peek(slot->place(), slot->size) : nullptr;
  if (body) return {body->part(slot->place(), slot->size), body->owner};
  auto group = group_of(job);
  MILLRACE_CHECK(group != groups_.end());
  return {group->second.payloads[job.value - group->first.value], nullptr};
}

PayloadStore::Bytes PayloadStore::shared_payload(JobId job) {
  Bytes bytes = payload(job);
  if (!bytes.owner && !bytes.view.empty()) bytes.owner = group_of(job)->second.owner;
  return bytes;
}

size_t PayloadStore::size_of(JobId job) {
  if (const Slot* slot = slots_.find(job)) return slot->size;
  auto group = group_of(job);
  return group == groups_.end() ? 0 : group->second.payloads[job.value - group->first.value].size();
}

void PayloadStore::retire(protocol::JobRange jobs) {
  for (uint64_t id = jobs.first.value; id < jobs.first.value + jobs.count; ++id) {
    if (const Slot* slot = slots_.find({id})) {
      retire_payload({id}, *slot);
    } else if (auto result = results_.find({id}); result != results_.end()) {
      leave(result->second.segment, result->second.size);
      results_.erase(result);
    } else if (!uncommitted_.empty() && JobId{id} >= uncommitted_.front().first) {
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
  SegmentId oldest_needed = std::min(current, oldest_segment(current));
  if (auto reading = read_back_.oldest_segment()) oldest_needed = std::min(oldest_needed, *reading);
  if (oldest_needed.value == 0 || oldest_needed.value - 1 <= retired_.value) return std::nullopt;
  read_back_.forget(oldest_needed);
  return retired_ = {oldest_needed.value - 1};
}

}  // namespace millrace::server
