#include "producer/session/batch.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::producer {

using protocol::kTargetFrame;
using protocol::kTargetJobs;

namespace {

bool alike_but_for_keys(const protocol::SubmitOptions& a, const protocol::SubmitOptions& b) {
  return a.report == b.report && a.max_attempts == b.max_attempts && a.priority == b.priority &&
         a.delay == b.delay && a.ttl == b.ttl && a.key.empty() == b.key.empty();
}

}  // namespace

Batch::Batch(Seq first, std::string_view queue, protocol::SubmitOptions options)
    : first_(first), queue_(queue), options_(std::move(options)), keyed_(!options_.key.empty()) {}

Batch Batch::gap(SeqRange seqs) {
  Batch batch(seqs.first, "", {});
  batch.gap_ = seqs.count;
  batch.closed_ = true;
  return batch;
}

bool Batch::takes(std::string_view queue, const protocol::SubmitOptions& options,
                  size_t size) const {
  return !closed_ && !full() && bytes_.size() + size <= kTargetFrame && queue == queue_ &&
         alike_but_for_keys(options, options_);
}

void Batch::add(std::string_view payload, std::string_view key) {
  MILLRACE_CHECK(keyed_ == !key.empty());
  MILLRACE_CHECK(!closed_ && !full());
  bytes_.append(payload);
  if (keyed_) keys_.emplace_back(key);
  ends_.push_back(bytes_.size());
  states_.push_back(State::unanswered);
  largest_ = std::max(largest_, payload.size());
}

bool Batch::full() const { return states_.size() >= kTargetJobs || bytes_.size() >= kTargetFrame; }

std::string_view Batch::payload(Seq seq) const {
  size_t i = index(seq);
  MILLRACE_CHECK(i < ends_.size() && !complete());
  return std::string_view(bytes_).substr(start_of(i), ends_[i] - start_of(i));
}

uint64_t Batch::bytes_of(SeqRange part) const {
  if (part.count == 0) return 0;
  return ends_[index(part.end()) - 1] - start_of(index(part.first));
}

uint64_t Batch::fitting(SeqRange part, uint64_t jobs, uint64_t bytes) const {
  MILLRACE_CHECK(part.count > 0);
  uint64_t count = std::clamp<uint64_t>(part.count, 1, std::max<uint64_t>(jobs, 1));
  auto from = ends_.begin() + ptrdiff_t(index(part.first));
  uint64_t limit = start_of(index(part.first)) + std::min(bytes, bytes_of(part));
  auto within = uint64_t(std::upper_bound(from, from + ptrdiff_t(count), limit) - from);
  return std::max<uint64_t>(within, 1);
}

std::optional<SeqRange> Batch::find(SeqRange part, State state) const {
  if (is_gap()) return std::nullopt;
  auto end = states_.begin() + ptrdiff_t(index(part.end()));
  auto from = std::find(states_.begin() + ptrdiff_t(index(part.first)), end, state);
  if (from == end) return std::nullopt;
  auto to = std::find_if(from, end, [state](State other) { return other != state; });
  return SeqRange{{first_.value + uint64_t(from - states_.begin())}, uint64_t(to - from)};
}

void Batch::mark(SeqRange part, State state) {
  auto from = states_.begin() + ptrdiff_t(index(part.first));
  MILLRACE_CHECK(index(part.end()) <= states_.size());
  std::fill(from, from + ptrdiff_t(part.count), state);
  if (state != State::answered) return;
  answered_ += part.count;
  MILLRACE_CHECK(answered_ <= states_.size());
  if (!complete()) return;
  bytes_ = {};
  keys_ = {};
}

}  // namespace millrace::producer
