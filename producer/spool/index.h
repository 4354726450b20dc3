// What a spool queue holds, without the payloads: an entry for each Put, where it stands, and which
// of its submissions have an answer. It does no I/O.
// Shape:   add() and grow() while a Put gathers, placed() when it is on disk; answered(); or
//          restore() and answered() in a replay, which give the same index
//          1. Entries ascend and do not overlap.
//          2. The first entry is never answered as a whole.
// Units:   bytes are those of payloads and keys; of an entry that is answered in part they count as
//          if its submissions were alike
// Limits:  32 bytes an entry; a bit for each submission of those that are answered in part
// Threads: one
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/journal/journal.h"
#include "producer/session/listener.h"

namespace millrace::producer {

class SpoolIndex {
 public:
  struct Entry {
    uint64_t first = 0;
    uint32_t segment = 0;  // 0: not on disk yet
    uint32_t offset = 0;   // of the record
    uint32_t size = 0;     // likewise
    uint32_t bytes = 0;
    uint16_t count = 0;
    uint16_t unanswered = 0;
    bool loaded = false;

    SeqRange seqs() const { return {{first}, count}; }
    journal::Place place() const { return {{segment}, offset}; }
  };
  static_assert(sizeof(Entry) == 32);

  // A Put begins; its sequence is above all others.
  void add(Seq first, bool loaded);
  // One more submission in it; none of it has an answer yet.
  void grow(uint64_t bytes);
  // The Put that begins there stands here from now on. One that is answered by now is none any
  // more.
  void placed(Seq first, journal::Place place, size_t size);
  // A Put that a replay found. False: it overlaps another.
  [[nodiscard]] bool restore(SeqRange seqs, uint64_t bytes, journal::Place place, size_t size);

  // What had no answer of these, and has one now.
  std::vector<SeqRange> answered(SeqRange seqs);
  // What has one within an entry, and what has none.
  std::vector<SeqRange> runs_of(const Entry& entry, bool answered) const;
  bool is_answered(const Entry& entry, Seq seq) const;

  // The entry of the next submission to be given out; null: there is none.
  const Entry* next_to_load();
  // Where it goes on in that entry, and that it was given out up to here.
  Seq load_from(const Entry& entry) const { return {std::max(next_load_, entry.first)}; }
  void loaded_below(Seq end);

  std::optional<Seq> first_unanswered() const;
  Seq last() const { return last_; }  // that was ever here; 0: none
  uint64_t jobs() const { return jobs_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t unloaded() const { return unloaded_; }

  // The oldest segment in which a Put still counts.
  std::optional<SegmentId> oldest_segment() const;
  uint64_t live_bytes() const { return live_bytes_; }  // of Puts on disk that still count
  // The next such Put in that segment that begins at `from` or behind; null: there is none.
  const Entry* in_segment(SegmentId segment, Seq from) const;
  // The entries that a range touches.
  std::vector<const Entry*> entries_in(SeqRange seqs) const;

  std::string describe() const;  // all of it but what is loaded, for tests

 private:
  using Entries = std::deque<Entry>;

  size_t at_or_behind(uint64_t seq) const;  // the first entry that ends behind seq
  Entry* entry_at(Seq first);
  void answer(Entry& entry, SeqRange seqs, std::vector<SeqRange>* fresh);
  bool is_given(const Entry& entry, Seq seq) const;
  static uint64_t share(const Entry& entry);
  void leave_segment(const Entry& entry);
  void drop_answered();

  Entries entries_;
  std::unordered_map<uint64_t, std::vector<bool>> partly_;  // by first: who has an answer
  size_t dead_ = 0;                                         // entries that are answered as a whole
  std::map<uint32_t, uint64_t> live_;                       // entries that count, by segment
  uint64_t live_bytes_ = 0;
  Seq last_;
  uint64_t next_load_ = 0;  // everything below was given out, or came loaded
  uint64_t jobs_ = 0, bytes_ = 0, unloaded_ = 0;
};

}  // namespace millrace::producer
