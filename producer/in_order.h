// Puts texts that come in any order into the order of their sequences.
// Shape:   expect() says which sequences will come, ascending; put() brings the text of some of them,
//          and what has no gap before it any more is given to the sink at once
// Limits:  held() bytes wait for a text before them; their owner bounds it by expecting no more
// Threads: one thread
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>

#include "producer/session/listener.h"

namespace millrace::producer {

class InOrder {
 public:
  using Sink = std::function<void(std::string text)>;
  explicit InOrder(Sink sink) : sink_(std::move(sink)) {}

  void expect(SeqRange seqs);
  void put(SeqRange seqs, std::string text);
  uint64_t held() const { return held_; }
  // Everything before this sequence has been given out.
  Seq next() const { return next_; }

 private:
  struct Text {
    uint64_t count;
    std::string text;
  };
  Sink sink_;
  std::deque<SeqRange> expected_;   // from the next one on
  std::map<uint64_t, Text> early_;  // by first sequence
  uint64_t held_ = 0;
  Seq next_{0};
};

}  // namespace millrace::producer
