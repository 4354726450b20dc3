#include "producer/spool/index.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/protocol/limits.h"

namespace millrace::producer {
namespace {

// Fewer are not worth a walk over all entries.
constexpr size_t kManyDead = 1024;

SeqRange overlap(SeqRange a, SeqRange b) {
  const Seq first = std::max(a.first, b.first), end = std::min(a.end(), b.end());
  return {first, end > first ? end.value - first.value : 0};
}

void append(std::vector<SeqRange>* runs, SeqRange run) {
  if (!runs->empty() && runs->back().end() == run.first) {
    runs->back().count += run.count;
  } else {
    runs->push_back(run);
  }
}

}  // namespace

// ---- what comes in

void SpoolIndex::add(Seq first, bool loaded) {
  MILLRACE_CHECK(first > last_);
  Entry entry;
  entry.first = first.value;
  entry.loaded = loaded;
  entries_.push_back(entry);
  last_ = {first.value - 1};
}

void SpoolIndex::grow(uint64_t bytes) {
  Entry& entry = entries_.back();
  MILLRACE_CHECK(entry.segment == 0 && entry.unanswered == entry.count);
  MILLRACE_CHECK(entry.count < protocol::kMaxJobsPerMessage);
  bytes_ -= share(entry);
  ++entry.count;
  ++entry.unanswered;
  entry.bytes += uint32_t(bytes);
  bytes_ += share(entry);
  ++jobs_;
  unloaded_ += !entry.loaded;
  ++last_.value;
}

void SpoolIndex::placed(Seq first, journal::Place place, size_t size) {
  Entry* entry = entry_at(first);
  if (!entry || entry->unanswered == 0) return;
  leave_segment(*entry);
  entry->segment = uint32_t(place.segment.value);
  entry->offset = place.offset;
  entry->size = uint32_t(size);
  ++live_[entry->segment];
  live_bytes_ += entry->size;
}

bool SpoolIndex::restore(SeqRange seqs, uint64_t bytes, journal::Place place, size_t size) {
  MILLRACE_CHECK(seqs.count > 0 && seqs.count <= protocol::kMaxJobsPerMessage);
  const size_t at = at_or_behind(seqs.first.value);
  const bool touches = at < entries_.size() && entries_[at].first < seqs.end().value;
  if (touches && !(entries_[at].seqs() == seqs)) return false;
  if (!touches) {
    Entry entry;
    entry.first = seqs.first.value;
    entry.bytes = uint32_t(bytes);
    entry.count = entry.unanswered = uint16_t(seqs.count);
    entries_.insert(entries_.begin() + ptrdiff_t(at), entry);
    jobs_ += seqs.count;
    unloaded_ += seqs.count;
    bytes_ += bytes;
    last_ = std::max(last_, Seq{seqs.end().value - 1});
  }
  placed(seqs.first, place, size);
  return true;
}

// ---- answers

std::vector<SeqRange> SpoolIndex::answered(SeqRange seqs) {
  std::vector<SeqRange> fresh;
  for (size_t at = at_or_behind(seqs.first.value);
       at < entries_.size() && entries_[at].first < seqs.end().value; ++at)
    answer(entries_[at], overlap(seqs, entries_[at].seqs()), &fresh);
  drop_answered();
  return fresh;
}

void SpoolIndex::answer(Entry& entry, SeqRange seqs, std::vector<SeqRange>* fresh) {
  if (entry.unanswered == 0 || seqs.count == 0) return;
  bytes_ -= share(entry);
  const bool is_whole = seqs == entry.seqs() && entry.unanswered == entry.count;
  std::vector<bool>* marks = nullptr;
  if (!is_whole) marks = &partly_.try_emplace(entry.first, entry.count, false).first->second;
  for (Seq seq = seqs.first; seq < seqs.end(); ++seq.value) {
    if (marks && (*marks)[seq.value - entry.first]) continue;
    if (marks) (*marks)[seq.value - entry.first] = true;
    --entry.unanswered;
    --jobs_;
    unloaded_ -= !is_given(entry, seq);
    append(fresh, {seq, 1});
  }
  bytes_ += share(entry);
  if (entry.unanswered > 0) return;
  partly_.erase(entry.first);
  leave_segment(entry);
  ++dead_;
}

// Behind one that waits for long there may be any number of the others.
void SpoolIndex::drop_answered() {
  for (; !entries_.empty() && entries_.front().unanswered == 0; --dead_) entries_.pop_front();
  if (dead_ < kManyDead || dead_ < entries_.size() / 2) return;
  std::erase_if(entries_, [](const Entry& entry) { return entry.unanswered == 0; });
  dead_ = 0;
}

bool SpoolIndex::is_answered(const Entry& entry, Seq seq) const {
  if (entry.unanswered == 0 || entry.unanswered == entry.count) return entry.unanswered == 0;
  return partly_.at(entry.first)[seq.value - entry.first];
}

std::vector<SeqRange> SpoolIndex::runs_of(const Entry& entry, bool answered) const {
  std::vector<SeqRange> runs;
  for (Seq seq = entry.seqs().first; seq < entry.seqs().end(); ++seq.value)
    if (is_answered(entry, seq) == answered) append(&runs, {seq, 1});
  return runs;
}

// ---- what goes out

const SpoolIndex::Entry* SpoolIndex::next_to_load() {
  if (unloaded_ == 0) return nullptr;
  for (size_t at = at_or_behind(next_load_); at < entries_.size(); ++at) {
    const Entry& entry = entries_[at];
    next_load_ = std::max(next_load_, entry.first);
    if (!entry.loaded && entry.unanswered > 0) return &entry;
    next_load_ = entry.seqs().end().value;
  }
  MILLRACE_CHECK(false);  // one that counts is there
  return nullptr;
}

void SpoolIndex::loaded_below(Seq end) {
  const size_t at = at_or_behind(next_load_);
  if (at == entries_.size()) return;
  const Entry& entry = entries_[at];
  MILLRACE_CHECK(end.value <= entry.seqs().end().value);
  for (Seq seq = load_from(entry); seq < end; ++seq.value) unloaded_ -= !is_answered(entry, seq);
  next_load_ = std::max(next_load_, end.value);
}

bool SpoolIndex::is_given(const Entry& entry, Seq seq) const {
  return entry.loaded || seq.value < next_load_;
}

// ---- what is there

std::optional<Seq> SpoolIndex::first_unanswered() const {
  if (entries_.empty()) return std::nullopt;
  const Entry& front = entries_.front();
  Seq seq{front.first};
  while (is_answered(front, seq)) ++seq.value;
  return seq;
}

std::optional<SegmentId> SpoolIndex::oldest_segment() const {
  if (live_.empty()) return std::nullopt;
  return SegmentId{live_.begin()->first};
}

const SpoolIndex::Entry* SpoolIndex::in_segment(SegmentId segment, Seq from) const {
  for (size_t at = at_or_behind(from.value); at < entries_.size(); ++at) {
    const Entry& entry = entries_[at];
    if (entry.first >= from.value && entry.segment == segment.value && entry.unanswered > 0)
      return &entry;
  }
  return nullptr;
}

std::vector<const SpoolIndex::Entry*> SpoolIndex::entries_in(SeqRange seqs) const {
  std::vector<const Entry*> found;
  for (size_t at = at_or_behind(seqs.first.value);
       at < entries_.size() && entries_[at].first < seqs.end().value; ++at)
    if (entries_[at].unanswered > 0) found.push_back(&entries_[at]);
  return found;
}

std::string SpoolIndex::describe() const {
  std::string text;
  for (const Entry& entry : entries_) {
    if (entry.unanswered == 0) continue;
    text += std::to_string(entry.segment) + ":" + std::to_string(entry.offset) + "+" +
            std::to_string(entry.size) + " " + std::to_string(entry.bytes) + " bytes";
    for (SeqRange run : runs_of(entry, false))
      text += " " + std::to_string(run.first.value) + "+" + std::to_string(run.count);
    text += "\n";
  }
  return text + std::to_string(jobs_) + " jobs, " + std::to_string(bytes_) + " bytes, " +
         std::to_string(live_bytes_) + " on disk\n";
}

size_t SpoolIndex::at_or_behind(uint64_t seq) const {
  auto found = std::partition_point(entries_.begin(), entries_.end(), [seq](const Entry& entry) {
    return entry.seqs().end().value <= seq;
  });
  return size_t(found - entries_.begin());
}

SpoolIndex::Entry* SpoolIndex::entry_at(Seq first) {
  const size_t at = at_or_behind(first.value);
  return at < entries_.size() && entries_[at].first == first.value ? &entries_[at] : nullptr;
}

uint64_t SpoolIndex::share(const Entry& entry) {
  return entry.count == 0 ? 0 : uint64_t{entry.bytes} * entry.unanswered / entry.count;
}

void SpoolIndex::leave_segment(const Entry& entry) {
  if (entry.segment == 0) return;
  live_bytes_ -= entry.size;
  if (--live_.at(entry.segment) == 0) live_.erase(entry.segment);
}

}  // namespace millrace::producer
