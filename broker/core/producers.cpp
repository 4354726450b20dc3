#include "broker/core/producers.h"

#include <algorithm>

#include "common/check.h"

namespace millrace::core {

Producers::Entry& Producers::entry_of(const Uuid& id) {
  auto [found, is_new] = entries_.try_emplace(id);
  if (is_new) {
    found->second.index = next_index_++;
    ids_.emplace(found->second.index, id);
  }
  return found->second;
}

ProducerIndex Producers::index_of(const Uuid& id) const {
  auto found = entries_.find(id);
  MILLRACE_CHECK(found != entries_.end());
  return found->second.index;
}

const Uuid* Producers::id_of(ProducerIndex index) const {
  auto found = ids_.find(index);
  return found == ids_.end() ? nullptr : &found->second;
}

Seq Producers::floor_of(const Uuid& id) const {
  auto found = entries_.find(id);
  return found == entries_.end() ? Seq{1} : found->second.floor;
}

Producers::Known Producers::look_up(const Uuid& id, Seq first, uint64_t count) const {
  auto found = entries_.find(id);
  if (found == entries_.end()) return {count, false, {}};
  const auto& known = found->second.known;
  auto next = known.upper_bound(first.value);
  if (next != known.begin()) {
    const records::SeqRun& run = std::prev(next)->second;
    uint64_t into = first.value - run.first.value;
    if (into < run.count)
      return {std::min(count, run.count - into), true, {run.first_job.value + into}};
  }
  uint64_t until_next = next == known.end() ? count : next->first - first.value;
  return {std::min(count, until_next), false, {}};
}

void Producers::accept(const records::Accepted& record) {
  learn(record.producer, record.floor, record.time,
        {record.first_seq, record.payloads.size(), record.first_job});
}

void Producers::match(const records::Matched& record) {
  learn(record.producer, record.floor, record.time, {record.seq, 1, record.job});
}

void Producers::learn(const Uuid& id, Seq floor, WallMs time, records::SeqRun run) {
  Entry& entry = entry_of(id);
  entry.seen = time;
  entry.floor = std::max(entry.floor, floor);
  auto& known = entry.known;
  // Runs that end at or below the floor are never asked for again.
  while (!known.empty() && known.begin()->first + known.begin()->second.count <= entry.floor.value)
    known.erase(known.begin());
  auto next = known.upper_bound(run.first.value);
  if (next != known.begin()) {
    records::SeqRun& previous = std::prev(next)->second;
    if (previous.first.value + previous.count == run.first.value &&
        previous.first_job.value + previous.count == run.first_job.value) {
      previous.count += run.count;
      return;
    }
  }
  known.emplace_hint(next, run.first.value, run);
}

void Producers::forget(const Uuid& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;
  ids_.erase(found->second.index);
  entries_.erase(found);
}

void Producers::restore(const records::ProducerState& state) {
  Entry& entry = entry_of(state.id);
  entry.floor = state.floor;
  entry.seen = state.seen;
  for (const records::SeqRun& run : state.known) entry.known.emplace(run.first.value, run);
}

std::vector<records::ProducerState> Producers::all() const {
  std::vector<records::ProducerState> states;
  for (const auto& [id, entry] : entries_) {
    records::ProducerState state{id, entry.floor, entry.seen, {}};
    for (const auto& [first, run] : entry.known) state.known.push_back(run);
    states.push_back(std::move(state));
  }
  std::sort(states.begin(), states.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return states;
}

}  // namespace millrace::core
