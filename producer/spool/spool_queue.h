// The submissions for one broker that have no answer yet: what came in goes to disk, what is on
// disk is given out again in order, and what has an answer goes (docs/SPOOL.md).
// Shape:   put() and answered() gather, write() hands over to the journal, take_safe() says what is
//          on disk; load() gives submissions back, oldest first
//          1. What take_safe() named is there after any crash, until it is answered.
//          2. Once an answer is on disk, the submission never comes back.
//          3. floor() is never above what a later run's load() may give.
// Units:   bytes are those of payloads and keys; of a Put that is answered in part they are counted
//          as if its payloads were alike
// Limits:  an entry of 32 bytes for each Put that is not answered, and what is not yet on disk
// Errors:  failure() says why nothing becomes safe any more; load() and rejected() say file and
//          remedy
// Owns:    the spool queue's journal, with its thread
// Threads: the owner's; the journal's is behind it
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/journal/journal.h"
#include "common/protocol/messages.h"
#include "producer/session/batch.h"
#include "producer/session/listener.h"
#include "producer/spool/identity.h"
#include "producer/spool/index.h"
#include "producer/spool/place.h"
#include "producer/spool/records.h"

namespace millrace::producer {

class SpoolQueue {
 public:
  struct Entry {
    Seq seq;
    std::string_view queue;
    const protocol::SubmitOptions& options;
    std::string_view payload;
  };

  SpoolQueue(const SpoolQueue&) = delete;
  SpoolQueue& operator=(const SpoolQueue&) = delete;

  // Sequences are of this run, and ascend. `loaded`: the session has it already (it was sent
  // and not answered when the connection was lost), so load() will not give it in this run.
  void put(const Entry& entry, bool loaded);
  // Hands over to the journal what was put and answered since: at the end of each turn.
  void write();

  int wake_fd() const { return journal_->wake_fd(); }  // readable: call take_safe()
  // What was put since the last call and is on disk now, ascending. Clears the wake_fd.
  std::vector<SeqRange> take_safe();
  std::optional<Error> failure() const { return journal_->failure(); }
  bool stalled() const { return journal_->stalled(); }  // the disk is full: it is tried again

  // Gives submissions that were not loaded, oldest first, until visit says false: then that one
  // stays. What is not yet on disk is given too. `visit` must not call the spool queue, nor keep
  // the views.
  using Visit = std::function<bool(const Entry&)>;
  Result<void> load(const Visit& visit);
  uint64_t unloaded() const { return index_.unloaded(); }  // jobs that load() has still to give

  // Without an answer.
  uint64_t jobs() const { return index_.jobs(); }
  uint64_t bytes() const { return index_.bytes(); }
  // What was put and is not on disk yet, in memory.
  uint64_t unsafe_bytes() const { return unsafe_bytes_; }

  // For good. Those that are not here are skipped. On record with the next write().
  void answered(SeqRange seqs);
  // The broker will never take them: they go, with their payloads, into rejected.ndjson, and when
  // that is on disk they count as answered.
  Result<void> rejected(SeqRange seqs, std::string_view reason, std::string_view message);

  // The lowest sequence that another run might send again: no SUBMIT may declare a floor above it,
  // or the broker would forget what a resend needs. Seq{UINT64_MAX}: there is none. It rises when
  // the answers are on disk.
  Seq floor() const;

 private:
  friend class Spool;

  // A Put or an Answered in a chunk.
  struct Written {
    SeqRange seqs;
    size_t offset = 0;  // in the chunk
    size_t size = 0;
    uint64_t bytes = 0;  // that are safe with it
    bool again = false;  // it stood elsewhere before
  };
  struct Chunk {
    uint64_t ticket = 0;
    size_t bytes = 0;
    std::vector<Written> puts;
  };
  // Answers that are not on disk yet.
  struct Answers {
    uint64_t ticket = 0;
    Seq lowest;
  };
  // The bytes of a record, and what keeps them.
  struct Bytes {
    std::string_view view;
    std::shared_ptr<const void> owner;
  };

  SpoolQueue(std::string authority, const SpoolIdentity& identity, journal::Directory& root,
             uint64_t segment_bytes);
  static Result<std::unique_ptr<SpoolQueue>> open(SpoolPlace& place, const std::string& authority,
                                                  const SpoolIdentity& identity,
                                                  uint64_t segment_bytes);
  Result<void> stop();

  void close_put();
  void begin_chunk();
  Written put_record(SeqRange seqs, std::shared_ptr<const std::string> record);
  void put_answers();
  void relocate_live();
  bool carry(const SpoolIndex::Entry& entry);
  void append_chunk();
  void retire();
  uint64_t segment_used() const;

  Result<Bytes> bytes_of(const SpoolIndex::Entry& entry);
  // The entry's submissions from a sequence on that have no answer, until visit says false.
  Result<bool> visit_entry(const SpoolIndex::Entry& entry, SeqRange seqs, const Visit& visit);

  const std::string authority_;
  const SpoolIdentity identity_;
  journal::Directory& root_;  // for rejected.ndjson
  const uint64_t segment_bytes_;

  SpoolIndex index_;
  std::optional<Batch> open_;  // the Put that gathers
  bool open_loaded_ = false;
  uint64_t open_bytes_ = 0;
  std::vector<SeqRange> answered_;   // since the last write()
  Seq lowest_answered_{UINT64_MAX};  // of these

  journal::Chunk chunk_;
  bool opens_segment_ = false;
  Chunk gathered_;  // what stands in chunk_
  std::deque<Chunk> in_flight_;
  std::deque<Answers> answers_;  // rising: the first one is the lowest
  // Puts that are not on disk, by their first sequence.
  std::unordered_map<uint64_t, std::shared_ptr<const std::string>> uncommitted_;
  uint64_t unsafe_bytes_ = 0;
  journal::Body read_back_;  // the batch that load() reads from

  uint64_t appended_ = 0, committed_ = 0;  // tickets
  uint64_t opened_by_ = 0;                 // the ticket that began the segment; 0: none has
  uint64_t uncommitted_in_segment_ = 0;    // bytes
  SegmentId segment_;                      // of the last commit
  uint64_t segment_end_ = 0;               // behind it
  SegmentId retired_;
  Seq relocate_next_;  // where the search for Puts to write anew goes on

  std::unique_ptr<journal::Journal> journal_;  // ends first: it holds what is in flight
};

}  // namespace millrace::producer
