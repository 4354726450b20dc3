#include "producer/submit/in_order.h"

#include "common/base/check.h"

namespace millrace::producer {

void InOrder::expect(SeqRange seqs) {
  if (!expected_.empty() && expected_.back().end() == seqs.first) {
    expected_.back().count += seqs.count;
    return;
  }
  expected_.push_back(seqs);
}

void InOrder::put(SeqRange seqs, std::string text) {
  held_ += text.size();
  early_.emplace(seqs.first.value, Text{seqs.count, std::move(text)});
  while (!expected_.empty()) {
    SeqRange& front = expected_.front();
    auto next = early_.extract(front.first.value);
    if (next.empty()) return;
    auto& [count, due] = next.mapped();
    MILLRACE_CHECK(count <= front.count);
    const SeqRange given{front.first, count};
    front = {given.end(), front.count - count};
    if (front.count == 0) expected_.pop_front();
    held_ -= due.size();
    sink_(given, due);
  }
}

}  // namespace millrace::producer
