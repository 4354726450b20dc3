// Consecutive submissions for one queue with one set of options: what one SUBMIT carries. Their
// payloads stand back to back in one buffer, so a submission costs no allocation of its own.
// Shape:   bytes, the end of each payload in them, and a state for each submission; of those with
//          an idempotency key the key too: either all of a batch have one, or none. Or a gap:
//          sequences that this session does not use
// Limits:  kTargetJobs payloads, about kTargetFrame bytes; a single larger payload stands alone
// Owns:    copies of the payloads, until all are answered
// Threads: one thread
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "producer/session/listener.h"

namespace millrace::producer {

class Batch {
 public:
  enum class State : uint8_t { unanswered, postponed, answered };

  Batch(Seq first, std::string_view queue, protocol::SubmitOptions options);
  static Batch gap(SeqRange seqs);

  // Whether another payload may join: not after close(), and while there is room.
  bool takes(std::string_view queue, const protocol::SubmitOptions& options, size_t size) const;
  void add(std::string_view payload, std::string_view key = {});
  bool full() const;
  void close() { closed_ = true; }
  bool closed() const { return closed_; }
  bool is_gap() const { return gap_ > 0; }

  SeqRange range() const { return {first_, is_gap() ? gap_ : states_.size()}; }
  const std::string& queue() const { return queue_; }
  // But for the key, which each submission has of its own.
  const protocol::SubmitOptions& options() const { return options_; }
  bool keyed() const { return keyed_; }
  std::string_view key(Seq seq) const { return keys_[index(seq)]; }
  std::string_view payload(Seq seq) const;
  size_t largest() const { return largest_; }
  // Payload bytes of a part of the batch.
  uint64_t bytes_of(SeqRange part) const;
  // How many payloads from `from` on, within both limits; at least one.
  uint64_t fitting(SeqRange part, uint64_t jobs, uint64_t bytes) const;

  bool answered(Seq seq) const { return states_[index(seq)] == State::answered; }
  // The first unbroken run of a state within a part.
  std::optional<SeqRange> find(SeqRange part, State state) const;
  // Once everything is answered the payloads are let go.
  void mark(SeqRange part, State state);
  bool complete() const { return answered_ == states_.size(); }

 private:
  size_t index(Seq seq) const { return size_t(seq.value - first_.value); }
  uint64_t start_of(size_t index) const { return index == 0 ? 0 : ends_[index - 1]; }

  Seq first_;
  uint64_t gap_ = 0;  // how many sequences, if it is one
  std::string queue_;
  protocol::SubmitOptions options_;
  bool keyed_ = false;
  bool closed_ = false;
  std::string bytes_;
  std::vector<uint64_t> ends_;
  std::vector<std::string> keys_;
  std::vector<State> states_;
  size_t answered_ = 0;
  size_t largest_ = 0;
};

}  // namespace millrace::producer
