// The submissions for one broker that have no answer yet: what came in goes to disk, what is on disk
// is given out again in order, and what has an answer goes (docs/SPOOL.md).
// Shape:   put() and answered() gather, write() hands over to the journal, take_safe() says what is on
//          disk; load() gives submissions back, oldest first
//          1. What take_safe() named is there after any crash, until it is answered.
//          2. Once an answer is on disk, the submission never comes back.
//          3. floor() is never above what a later run's load() may give.
// Units:   bytes are those of payloads and keys; of a Put that is answered in part they are counted
//          as if its payloads were alike
// Limits:  an entry of 32 bytes for each Put that is not answered, and what is not yet on disk
// Errors:  failure() says why nothing becomes safe any more; load() and rejected() say file and remedy
// Owns:    the lane's journal, with its thread
// Threads: the owner's; the journal's is behind it
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/journal/journal.h"
#include "common/protocol/messages.h"
#include "producer/session/listener.h"
#include "producer/spool/index.h"
#include "producer/spool/put_builder.h"
#include "producer/spool/rejects.h"

namespace millrace::producer {

class SpoolLane {
 public:
  struct Entry {
    Seq seq;
    std::string_view queue;
    const protocol::SubmitOptions& options;
    std::string_view payload;
  };

  SpoolLane(const SpoolLane&) = delete;
  SpoolLane& operator=(const SpoolLane&) = delete;

  // Sequences ascend over the life of the directory. `loaded`: the session has it already (it was sent
  // and not answered when the connection was lost), so load() will not give it in this run.
  void put(const Entry& entry, bool loaded);
  // Hands over to the journal what was put and answered since: at the end of each turn.
  void write();

  int wake_fd() const { return journal_->wake_fd(); }  // readable: call take_safe()
  // What was put since the last call and is on disk now, ascending. Clears the wake_fd.
  std::vector<SeqRange> take_safe();
  std::optional<Error> failure() const { return journal_->failure(); }
  bool stalled() const { return journal_->stalled(); }  // the disk is full: it is tried again

  // Gives submissions that were not loaded, oldest first, until visit says false: then that one stays.
  // What is not yet on disk is given too. `visit` must not call the lane.
  using Visit = std::function<bool(const Entry&)>;
  Result<void> load(const Visit& visit);
  uint64_t unloaded() const { return index_.unloaded(); }  // jobs that load() has still to give

  // Without an answer.
  uint64_t jobs() const { return index_.jobs(); }
  uint64_t bytes() const { return index_.bytes() + open_.bytes(); }

  // For good. Those that are not here are skipped. On record with the next write().
  void answered(SeqRange seqs);
  // The broker will never take them: they go, with their payloads, into rejected.ndjson, and when
  // that is on disk they count as answered.
  Result<void> rejected(SeqRange seqs, std::string_view reason, std::string_view message);

  // The lowest sequence that another run might send again: no SUBMIT may declare a floor above it, or
  // the broker would forget what a resend needs. Seq{UINT64_MAX}: there is none. It rises when the
  // answers are on disk.
  Seq floor() const;

 private:
  friend class Spool;
};

}  // namespace millrace::producer
