#include "broker/server/read_back.h"

#include <algorithm>

#include "common/base/check.h"

namespace millrace::server {

size_t ReadBack::most_reads(Need need) const {
  if (need == Need::relocation) return limits_.reads;
  return need == Need::now ? limits_.reads - 1 : limits_.reads / 2;
}

void ReadBack::request(JobId job, journal::Place at, uint32_t size, uint32_t until, Need need) {
  if (is_full(need) || is_being_read(at, size)) return;
  MILLRACE_CHECK(journal_ && size > 0 && until >= at.offset + size);
  reading_.push_back({++last_number_, job, at, size, until});
  journal_->request({last_number_, at, size, until});
}

bool ReadBack::is_being_read(journal::Place at, uint32_t size) const {
  return std::any_of(reading_.begin(), reading_.end(), [&](const Reading& reading) {
    return reading.at.segment == at.segment && at.offset >= reading.at.offset &&
           at.offset + size <= reading.until;
  });
}

Result<void> ReadBack::take(const std::function<bool(JobId, journal::Place)>& is_at) {
  std::vector<journal::Body> arrived;
  size_t bytes = 0;
  for (journal::ReadAnswer& answer : journal_->take_read()) {
    auto found = std::find_if(reading_.begin(), reading_.end(), [&](const Reading& reading) {
      return reading.number == answer.number;
    });
    MILLRACE_CHECK(found != reading_.end());
    const Reading reading = *found;
    reading_.erase(found);
    if (!answer.body && answer.body.error().code == ExitCode::temporary) {
      shortage_ = answer.body.error().message;
      continue;
    }
    if (!answer.body) {
      if (is_at(reading.job, reading.at)) return answer.body.error();
      continue;
    }
    // Another read may have brought it too; the longer one is kept.
    std::erase_if(kept_, [&](const Kept& kept) {
      return answer.body->holds(kept.body.at, kept.body.bytes.size());
    });
    bytes += answer.body->bytes.size();
    arrived.push_back(*std::move(answer.body));
  }
  if (!arrived.empty()) evict(bytes);
  for (journal::Body& body : arrived) kept_.push_back({std::move(body), false});
  return {};
}

void ReadBack::evict(size_t arriving) {
  size_t bytes = arriving;
  for (const Kept& kept : kept_) bytes += kept.body.bytes.size();
  auto end = kept_.begin();
  for (; end != kept_.end() && (bytes > limits_.bytes || kept_.end() - end >= long(limits_.bodies));
       ++end)
    bytes -= end->body.bytes.size();
  kept_.erase(kept_.begin(), end);
}

const journal::Body* ReadBack::peek(journal::Place at, uint32_t size) const {
  auto found = std::find_if(kept_.rbegin(), kept_.rend(),
                            [&](const Kept& kept) { return kept.body.holds(at, size); });
  return found == kept_.rend() ? nullptr : &found->body;
}

ReadBack::Found ReadBack::find(journal::Place at, uint32_t size) {
  auto found = std::find_if(kept_.rbegin(), kept_.rend(),
                            [&](const Kept& kept) { return kept.body.holds(at, size); });
  if (found == kept_.rend()) return {};
  std::rotate(found.base() - 1, found.base(), kept_.end());
  Kept& kept = kept_.back();
  return {&kept.body, !std::exchange(kept.is_used, true)};
}

void ReadBack::forget(SegmentId oldest) {
  std::erase_if(kept_, [&](const Kept& kept) { return kept.body.at.segment < oldest; });
}

std::optional<SegmentId> ReadBack::oldest_segment() const {
  std::optional<SegmentId> oldest;
  for (const Reading& reading : reading_)
    oldest = std::min(oldest.value_or(reading.at.segment), reading.at.segment);
  return oldest;
}

uint64_t ReadBack::bytes() const {
  uint64_t bytes = 0;
  for (const Kept& kept : kept_) bytes += kept.body.bytes.size();
  for (const Reading& reading : reading_) bytes += reading.until - reading.at.offset;
  return bytes;
}

}  // namespace millrace::server
