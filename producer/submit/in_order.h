// Puts texts that come in any order into the order in which they were expected.
// Shape:   expect() says which sequences will come, each once, in any order: a resume follows those of
//          several rounds, as the lines of its input have them; put() brings the text of some of them,
//          and what waits for nothing before it any more is given to the sink at once
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
  using Sink = std::function<void(SeqRange seqs, const std::string& text)>;
  explicit InOrder(Sink sink) : sink_(std::move(sink)) {}

  void expect(SeqRange seqs);
  // Of sequences that were expected behind one another.
  void put(SeqRange seqs, std::string text);
  uint64_t held() const { return held_; }

 private:
  struct Text {
    uint64_t count;
    std::string text;
  };
  Sink sink_;
  std::deque<SeqRange> expected_;   // from the next one on
  std::map<uint64_t, Text> early_;  // by first sequence
  uint64_t held_ = 0;
};

}  // namespace millrace::producer
