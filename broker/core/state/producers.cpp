#include "broker/core/state/producers.h"

#include <algorithm>

#include "broker/core/state/memory.h"
#include "common/base/check.h"

namespace millrace::core {

Producers::Entry& Producers::entry_of(const Uuid& id) {
  auto [found, is_new] = entries_.try_emplace(id);
  if (is_new) {
    found->second.index = next_index_++;
    found->second.place = by_last_seen_.insert(by_last_seen_.end(), id);
    holders_.emplace(found->second.index, Holder{id});
  }
  return found->second;
}

ProducerIndex Producers::index_of(const Uuid& id) const {
  auto found = entries_.find(id);
  MILLRACE_CHECK(found != entries_.end());
  return found->second.index;
}

const Uuid* Producers::id_of(ProducerIndex index) const {
  auto found = holders_.find(index);
  return found == holders_.end() ? nullptr : &found->second.id;
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

bool Producers::has_room_for(const Uuid& id, Seq floor, Seq first, JobId job) const {
  auto found = entries_.find(id);
  const Entry none, &entry = found == entries_.end() ? none : found->second;
  if (first <= std::max(floor, entry.floor)) return true;
  const size_t own = entry.known.size();
  const size_t share = std::max<size_t>(1, kMaxSequenceRuns / std::max<size_t>(1, entries_.size()));
  if (own < kMaxRunsOfProducer && (runs_ < kMaxSequenceRuns || own < share)) return true;
  if (own == 0) return false;
  // A floor that rises makes room; and what follows the run before it makes none.
  const records::SeqRun& lowest = entry.known.begin()->second;
  if (lowest.first.value + lowest.count <= floor.value) return true;
  auto next = entry.known.upper_bound(first.value);
  if (next == entry.known.begin()) return false;
  const records::SeqRun& before = std::prev(next)->second;
  return before.first.value + before.count == first.value &&
         before.first_job.value + before.count == job.value;
}

uint64_t Producers::memory_bytes() const {
  constexpr uint64_t kListNode = allocation_bytes(16 + sizeof(Uuid));
  return hash_map_bytes(entries_) + hash_map_bytes(holders_) + hash_map_bytes(live_of_key_) +
         hash_map_bytes(departed_) + entries_.size() * kListNode;
}

uint64_t Producers::run_memory_bytes() const {
  return runs_ * kTreeNodeBytes<decltype(Entry::known)::value_type>;
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
  by_last_seen_.splice(by_last_seen_.end(), by_last_seen_, entry.place);
  entry.floor = std::max(entry.floor, floor);
  auto& known = entry.known;
  // Runs that end at or below the floor are never asked for again.
  while (!known.empty() && known.begin()->first + known.begin()->second.count <= entry.floor.value)
    known.erase(known.begin()), --runs_;
  auto next = known.upper_bound(run.first.value);
  if (next != known.begin()) {
    records::SeqRun& previous = std::prev(next)->second;
    if (previous.first.value + previous.count == run.first.value &&
        previous.first_job.value + previous.count == run.first_job.value) {
      previous.count += run.count;
      return;
    }
  }
  const size_t before = known.size();
  known.emplace_hint(next, run.first.value, run);
  runs_ += known.size() - before;
}

void Producers::forget(const Uuid& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;
  auto holder = holders_.find(found->second.index);
  forgotten_.live += holder->second.live;
  if (holder->second.live_of_key && holder->second.live > 0) departed_.insert(*holder);
  recent_index_ = 0;
  holders_.erase(holder);
  MILLRACE_CHECK(runs_ >= found->second.known.size());
  runs_ -= found->second.known.size();
  by_last_seen_.erase(found->second.place);
  entries_.erase(found);
}

Producers::Holder& Producers::holder_of(ProducerIndex index) {
  if (index == 0) return forgotten_;
  if (index == recent_index_) return *recent_;
  auto found = holders_.find(index);
  if (found == holders_.end()) return forgotten_;
  recent_index_ = index;
  return *(recent_ = &found->second);
}

void Producers::add_live(ProducerIndex index, uint64_t jobs) {
  Holder& holder = holder_of(index);
  holder.live += jobs;
  if (holder.live_of_key) *holder.live_of_key += jobs;
}

void Producers::remove_live(ProducerIndex index) {
  Holder& holder = holder_of(index);
  MILLRACE_CHECK(holder.live > 0);
  --holder.live;
  if (holder.live_of_key) MILLRACE_CHECK((*holder.live_of_key)-- > 0);
  if (&holder == &forgotten_ && !departed_.empty()) remove_departed(index);
}

void Producers::remove_departed(ProducerIndex index) {
  auto found = departed_.find(index);
  if (found == departed_.end()) return;
  MILLRACE_CHECK(found->second.live > 0 && *found->second.live_of_key > 0);
  --*found->second.live_of_key;
  if (--found->second.live == 0) departed_.erase(found);
}

void Producers::set_key(const Uuid& id, KeyId key) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Holder& holder = holders_.at(found->second.index);
  if (holder.key == key) return;
  if (holder.live_of_key) {
    MILLRACE_CHECK(*holder.live_of_key >= holder.live);
    *holder.live_of_key -= holder.live;
  }
  holder.key = key;
  holder.live_of_key = &live_of_key_[key];
  *holder.live_of_key += holder.live;
}

uint64_t Producers::live_of(KeyId key) const {
  auto found = live_of_key_.find(key);
  return found == live_of_key_.end() ? 0 : found->second;
}

uint64_t Producers::live_of(const Uuid& id) const {
  auto found = entries_.find(id);
  return found == entries_.end() ? 0 : holders_.at(found->second.index).live;
}

std::vector<Producers::Share> Producers::largest(size_t most) const {
  std::vector<Share> shares;
  for (const auto& [index, holder] : holders_)
    if (holder.live > 0) shares.push_back({holder.id, holder.live});
  const auto end = shares.begin() + long(std::min(most, shares.size()));
  std::partial_sort(shares.begin(), end, shares.end(), [](const Share& a, const Share& b) {
    return a.live != b.live ? a.live > b.live : a.producer < b.producer;
  });
  shares.erase(end, shares.end());
  return shares;
}

void Producers::restore(const records::ProducerState& state) {
  Entry& entry = entry_of(state.id);
  entry.floor = state.floor;
  entry.seen = state.seen;
  runs_ -= entry.known.size();
  for (const records::SeqRun& run : state.known) entry.known.emplace(run.first.value, run);
  runs_ += entry.known.size();
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
