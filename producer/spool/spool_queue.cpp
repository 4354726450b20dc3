#include "producer/spool/spool_queue.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/check.h"
#include "producer/session/rounds.h"
#include "producer/spool/rejects.h"
#include "producer/spool/replay.h"

namespace millrace::producer {
namespace {

constexpr size_t kChunkBytes = 1 << 20;       // handed over in the middle of a turn
constexpr size_t kRelocateBytes = 256 << 10;  // written anew in one turn
// Besides twice what counts, a spool queue may take the open segment, one that is about to go, two
// that a commit is still to free, and two spares.
constexpr uint64_t kSegmentsOfSlack = 6;

void append(std::vector<SeqRange>* runs, SeqRange run) {
  if (!runs->empty() && runs->back().end() == run.first) {
    runs->back().count += run.count;
  } else {
    runs->push_back(run);
  }
}

std::shared_ptr<const std::string> record_of(const Batch& batch) {
  SpoolPut put;
  const SeqRange seqs = batch.range();
  put.submit.first = seqs.first;
  put.submit.queue = batch.queue();
  put.submit.options = batch.options();
  put.submit.options.key.clear();
  for (Seq seq = seqs.first; seq < seqs.end(); ++seq.value) {
    put.submit.payloads.push_back(batch.payload(seq));
    if (batch.keyed()) put.submit.keys.push_back(batch.key(seq));
  }
  return std::make_shared<const std::string>(encode(put));
}

}  // namespace

SpoolQueue::SpoolQueue(std::string authority, const SpoolIdentity& identity,
                       journal::Directory& root, uint64_t segment_bytes)
    : authority_(std::move(authority)),
      identity_(identity),
      root_(root),
      segment_bytes_(segment_bytes) {}

Result<std::unique_ptr<SpoolQueue>> SpoolQueue::open(SpoolPlace& place,
                                                     const std::string& authority,
                                                     const SpoolIdentity& identity,
                                                     uint64_t segment_bytes) {
  std::unique_ptr<SpoolQueue> spool_queue(
      new SpoolQueue(authority, identity, place.root(), segment_bytes));
  SpoolReplay replay({identity.producer, identity.run - 1});
  auto journal =
      place.open_spool_queue(spool_queue_folder(authority), segment_bytes, replay.visitor());
  if (!journal) return journal.error();
  spool_queue->journal_ = std::move(*journal);
  spool_queue->index_ = std::move(replay.index());
  spool_queue->segment_ = {replay.last_segment().value +
                           1};  // all before may go, if nothing counts
  uint32_t id = 0;
  for (size_t i = 0; i < sizeof id; ++i) id |= uint32_t{identity.producer.bytes[i]} << (8 * i);
  if (auto started = spool_queue->journal_->start({id}, identity.run); !started)
    return started.error();
  return spool_queue;
}

Result<void> SpoolQueue::stop() {
  write();
  return journal_->stop();
}

// ---- in

void SpoolQueue::put(const Entry& entry, bool loaded) {
  MILLRACE_CHECK(entry.seq > index_.last());
  MILLRACE_CHECK(entry.seq.value >> kRoundShift == identity_.run && number_of(entry.seq) > 0);
  MILLRACE_CHECK(is_spoolable(entry.queue, entry.options));
  const bool follows = open_ && entry.seq == open_->range().end() && loaded == open_loaded_ &&
                       open_->takes(entry.queue, entry.options, entry.payload.size());
  if (!follows) {
    close_put();
    open_.emplace(entry.seq, entry.queue, entry.options);
    open_loaded_ = loaded;
    index_.add(entry.seq, loaded);
  }
  open_->add(entry.payload, entry.options.key);
  const uint64_t bytes = entry.payload.size() + entry.options.key.size();
  index_.grow(bytes);
  open_bytes_ += bytes;
  unsafe_bytes_ += bytes;
}

void SpoolQueue::write() {
  close_put();
  put_answers();
  relocate_live();
  append_chunk();
  retire();
}

// The Put that gathered is a record of the chunk now.
void SpoolQueue::close_put() {
  if (!open_) return;
  const SeqRange seqs = open_->range();
  Written written = put_record(seqs, record_of(*open_));
  written.bytes = std::exchange(open_bytes_, 0);
  gathered_.puts.push_back(written);
  open_.reset();
  if (chunk_.bytes() >= kChunkBytes) append_chunk();
}

SpoolQueue::Written SpoolQueue::put_record(SeqRange seqs,
                                           std::shared_ptr<const std::string> record) {
  begin_chunk();
  const Written written{seqs, chunk_.bytes(), record->size()};
  uncommitted_[seqs.first.value] = record;
  chunk_.put({}, *record, record);
  return written;
}

void SpoolQueue::put_answers() {
  if (answered_.empty()) return;
  for (size_t at = 0; at < answered_.size(); at += kMaxRunsPerRecord) {
    begin_chunk();
    const auto from = answered_.begin() + ptrdiff_t(at);
    const size_t count = std::min(kMaxRunsPerRecord, answered_.size() - at);
    chunk_.put(encode(SpoolAnswered{{from, from + ptrdiff_t(count)}}));
  }
  answered_.clear();
  const Seq lowest = std::exchange(lowest_answered_, Seq{UINT64_MAX});
  while (!answers_.empty() && answers_.back().lowest >= lowest) answers_.pop_back();
  answers_.push_back({appended_ + 1, lowest});
}

void SpoolQueue::begin_chunk() {
  if (!chunk_.empty()) return;
  if (opened_by_ != 0 && segment_used() + segment_bytes_ / 16 < segment_bytes_) return;
  opens_segment_ = true;
  chunk_.put(encode(SpoolCheckpoint{identity_.producer, identity_.run}));
}

// What waits from before the segment began does not count.
uint64_t SpoolQueue::segment_used() const {
  return (committed_ >= opened_by_ ? segment_end_ : 0) + uncommitted_in_segment_;
}

void SpoolQueue::append_chunk() {
  if (chunk_.empty()) return;
  gathered_.bytes = chunk_.bytes();
  if (opens_segment_) opened_by_ = appended_ + 1, uncommitted_in_segment_ = 0;
  uncommitted_in_segment_ += chunk_.bytes();
  appended_ = journal_->append(std::exchange(chunk_, {}), std::exchange(opens_segment_, false));
  gathered_.ticket = appended_;
  in_flight_.push_back(std::exchange(gathered_, {}));
}

std::vector<SeqRange> SpoolQueue::take_safe() {
  std::vector<SeqRange> safe;
  for (const journal::Committed& commit : journal_->take_committed()) {
    MILLRACE_CHECK(!in_flight_.empty() && in_flight_.front().ticket == commit.ticket);
    const Chunk& chunk = in_flight_.front();
    for (const Written& put : chunk.puts) {
      index_.placed(put.seqs.first,
                    {commit.place.segment, commit.place.offset + uint32_t(put.offset)}, put.size);
      uncommitted_.erase(put.seqs.first.value);
      unsafe_bytes_ -= put.bytes;
      if (!put.again) append(&safe, put.seqs);
    }
    committed_ = commit.ticket;
    segment_ = commit.place.segment;
    segment_end_ = commit.place.offset + chunk.bytes;
    if (committed_ >= opened_by_) uncommitted_in_segment_ -= chunk.bytes;
    in_flight_.pop_front();
  }
  while (!answers_.empty() && answers_.front().ticket <= committed_) answers_.pop_front();
  return safe;
}

// ---- space

// What is no longer needed once all that was appended is on disk.
void SpoolQueue::retire() {
  const SegmentId needed = std::min(index_.oldest_segment().value_or(segment_), segment_);
  if (needed.value <= retired_.value + 1) return;
  retired_ = {needed.value - 1};
  journal_->retire(retired_);
}

// One submission that waits for long must not keep all that came after it.
void SpoolQueue::relocate_live() {
  const auto oldest = index_.oldest_segment();
  if (!oldest || *oldest >= segment_ || journal_->stalled()) return;
  const uint64_t most = 2 * index_.live_bytes() + kSegmentsOfSlack * segment_bytes_;
  if (journal_->stats().bytes_on_disk <= most) return;
  for (size_t bytes = 0; bytes < kRelocateBytes;) {
    const SpoolIndex::Entry* entry = index_.in_segment(*oldest, relocate_next_);
    relocate_next_ = entry ? entry->seqs().end() : Seq{};  // then from the front, in the next turn
    if (!entry || !carry(*entry)) return;
    bytes += entry->size;
  }
}

// What can't be read stays where it is: load() says why.
bool SpoolQueue::carry(const SpoolIndex::Entry& entry) {
  if (uncommitted_.contains(entry.first)) return true;
  auto bytes = bytes_of(entry);
  if (!bytes) return false;
  Written written = put_record(entry.seqs(), std::make_shared<const std::string>(bytes->view));
  written.again = true;
  gathered_.puts.push_back(written);
  if (entry.unanswered < entry.count)
    chunk_.put(encode(SpoolAnswered{index_.runs_of(entry, true)}));
  return true;
}

// ---- out

Result<void> SpoolQueue::load(const Visit& visit) {
  close_put();
  while (const SpoolIndex::Entry* entry = index_.next_to_load()) {
    const Seq from = index_.load_from(*entry), end = entry->seqs().end();
    auto more = visit_entry(*entry, {from, end.value - from.value}, [&](const Entry& given) {
      if (!visit(given)) return false;
      index_.loaded_below({given.seq.value + 1});
      return true;
    });
    if (!more) return more.error();
    if (!*more) return {};
    index_.loaded_below(end);
  }
  read_back_ = {};
  return {};
}

Result<bool> SpoolQueue::visit_entry(const SpoolIndex::Entry& entry, SeqRange seqs,
                                     const Visit& visit) {
  auto bytes = bytes_of(entry);
  if (!bytes) return bytes.error();
  bool goes_on = true;
  auto decoded = decode_spool(bytes->view, [&](const SpoolRecord& record, SpoolSpan) {
    const auto* put = std::get_if<SpoolPut>(&record);
    if (!put || !(put->seqs() == entry.seqs()))
      return Result<void>(Error{ExitCode::bad_data, "it is not the Put that was written"});
    protocol::SubmitOptions options = put->submit.options;
    for (Seq seq = seqs.first; seq < seqs.end() && goes_on; ++seq.value) {
      if (index_.is_answered(entry, seq)) continue;
      const size_t i = seq.value - entry.first;
      if (!put->submit.keys.empty()) options.key = put->submit.keys[i];
      goes_on = visit({seq, put->submit.queue, options, put->submit.payloads[i]});
    }
    return Result<void>();
  });
  if (decoded) return goes_on;
  return Error{
      decoded.error().code,
      fmt::format("the spool for {}, segment {}, byte {}: {}; restore the spool from a copy",
                  authority_, entry.segment, entry.offset, decoded.error().message)};
}

Result<SpoolQueue::Bytes> SpoolQueue::bytes_of(const SpoolIndex::Entry& entry) {
  if (auto found = uncommitted_.find(entry.first); found != uncommitted_.end())
    return Bytes{*found->second, found->second};
  if (!read_back_.owner || !read_back_.holds(entry.place(), entry.size)) {
    auto body = journal_->read(entry.place(), entry.size);
    if (!body) return body.error();
    read_back_ = std::move(*body);
  }
  return Bytes{read_back_.part(entry.place(), entry.size), read_back_.owner};
}

// ---- answers

void SpoolQueue::answered(SeqRange seqs) {
  if (open_ && seqs.first < open_->range().end() && open_->range().first < seqs.end()) close_put();
  for (SeqRange run : index_.answered(seqs)) {
    append(&answered_, run);
    lowest_answered_ = std::min(lowest_answered_, run.first);
  }
}

Result<void> SpoolQueue::rejected(SeqRange seqs, std::string_view reason,
                                  std::string_view message) {
  close_put();
  std::string lines;
  const WallMs now = Now::read().wall;
  for (const SpoolIndex::Entry* entry : index_.entries_in(seqs)) {
    const Seq first = std::max(seqs.first, entry->seqs().first);
    const Seq end = std::min(seqs.end(), entry->seqs().end());
    auto visited = visit_entry(*entry, {first, end.value - first.value}, [&](const Entry& gone) {
      lines += text_of(
          {now, authority_, gone.queue, gone.seq, reason, message, gone.options, gone.payload});
      return true;
    });
    if (!visited) return visited.error();
  }
  if (lines.empty()) return {};
  if (auto kept = append_rejected(root_, lines); !kept) return kept;
  answered(seqs);
  return {};
}

Seq SpoolQueue::floor() const {
  Seq floor = std::min(index_.first_unanswered().value_or(Seq{UINT64_MAX}), lowest_answered_);
  if (!answers_.empty()) floor = std::min(floor, answers_.front().lowest);
  return floor;
}

}  // namespace millrace::producer
