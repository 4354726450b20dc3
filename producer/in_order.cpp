#include "producer/in_order.h"

#include "common/check.h"

namespace millrace::producer {

void InOrder::expect(SeqRange seqs) {
  if (!expected_.empty() && expected_.back().end() == seqs.first) {
    expected_.back().count += seqs.count;
    return;
  }
  MILLRACE_CHECK(expected_.empty() || expected_.back().end() < seqs.first);
  expected_.push_back(seqs);
}

void InOrder::put(SeqRange seqs, std::string text) {
  held_ += text.size();
  early_.emplace(seqs.first.value, Text{seqs.count, std::move(text)});
  while (!early_.empty() && !expected_.empty()) {
    auto next = early_.begin();
    SeqRange& front = expected_.front();
    if (next->first != front.first.value) return;
    const uint64_t count = next->second.count;
    MILLRACE_CHECK(count <= front.count);
    held_ -= next->second.text.size();
    next_ = {next->first + count};
    sink_(std::move(next->second.text));
    early_.erase(next);
    front = {{front.first.value + count}, front.count - count};
    if (front.count == 0) expected_.pop_front();
  }
}

}  // namespace millrace::producer
