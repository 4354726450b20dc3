#include "common/journal/chunk.h"

#include "common/base/check.h"

namespace millrace::journal {

void Chunk::put(std::string bytes, std::string_view outside, std::shared_ptr<const void> owner) {
  MILLRACE_CHECK(outside.empty() || owner);
  bytes_ += bytes.size() + outside.size();
  ++records_;
  if (parts_.empty() || parts_.back().owner) parts_.emplace_back();
  parts_.back().inline_bytes += bytes;
  if (!outside.empty()) parts_.push_back({{}, outside, std::move(owner)});
}

std::vector<std::string_view> Chunk::parts() const {
  std::vector<std::string_view> views;
  views.reserve(parts_.size());
  for (const Part& part : parts_) views.push_back(part.owner ? part.outside : part.inline_bytes);
  return views;
}

}  // namespace millrace::journal
