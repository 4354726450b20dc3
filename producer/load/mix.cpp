#include "producer/load/mix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "common/base/units.h"
#include "common/protocol/messages.h"

namespace millrace::producer {
namespace {

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(at, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

Error bad_size(std::string_view text, std::string_view why) {
  return {ExitCode::usage, fmt::format("'{}' is not a distribution of sizes: {}; write 256, "
                                       "100..4KiB, 64:90%,10KiB:10% or 64,10%:10KiB",
                                       text, why)};
}

std::optional<double> percent_of(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  auto number = parse_integer(text.substr(0, text.size() - 1), 1, 100);
  return number ? std::optional(double(*number)) : std::nullopt;
}

Error bad_mix(std::string_view text, std::string_view why) {
  return {ExitCode::usage,
          fmt::format("'{}' is not a mix of queues: {}; write mail=3,images=1", text, why)};
}

}  // namespace

Result<SizeMix> SizeMix::parse(std::string_view text) {
  std::vector<Part> parts;
  double sum = 0;
  Part* rest = nullptr;
  const auto texts = split(text, ',');
  parts.reserve(texts.size());
  for (std::string_view entry : texts) {
    auto fields = split(entry, ':');
    if (fields.size() > 2) return bad_size(text, "there is one colon too many");
    std::optional<double> percent;
    if (fields.size() == 2) {
      percent = percent_of(fields[0]);
      if (percent) std::swap(fields[0], fields[1]);
      if (!percent) percent = percent_of(fields[1]);
      if (!percent) return bad_size(text, "a share is a whole percentage, as in 64:90%");
    }
    const size_t dots = fields[0].find("..");
    auto min = parse_size(fields[0].substr(0, dots), 0, kMaxSize);
    if (!min) return bad_size(text, min.error().message);
    auto max =
        dots == std::string_view::npos ? min : parse_size(fields[0].substr(dots + 2), 0, kMaxSize);
    if (!max) return bad_size(text, max.error().message);
    if (*max < *min) return bad_size(text, "a range begins with the smaller size");
    if (!percent && rest) return bad_size(text, "only one entry may omit its share");
    parts.push_back({size_t(*min), size_t(*max), percent.value_or(0)});
    if (!percent) rest = &parts.back();
    sum += percent.value_or(0);
  }
  if (sum > 100) return bad_size(text, "the shares exceed 100 %");
  if (rest) rest->percent = 100 - sum;
  if (!rest && sum < 100) return bad_size(text, "the shares are less than 100 %");
  return SizeMix(std::move(parts));
}

size_t SizeMix::size_of(uint64_t number) const {
  // The upper half chooses the part, the lower half the place in it.
  double place = double(number >> 32) / double(uint64_t{1} << 32) * 100;
  const Part* part = &parts_.front();
  for (const Part& candidate : parts_) {
    part = &candidate;
    if (place < candidate.percent) break;
    place -= candidate.percent;
  }
  const uint64_t width = part->max - part->min + 1;
  return part->min + size_t((number & 0xffffffff) * width >> 32);
}

size_t SizeMix::largest() const {
  size_t largest = 0;
  for (const Part& part : parts_) largest = std::max(largest, part.max);
  return largest;
}

QueueMix::QueueMix(std::vector<Part> parts)
    : parts_(std::move(parts)), run_(parts_.size()), order_(parts_.size()) {
  for (const Part& part : parts_) sum_ += part.weight;
  std::iota(order_.begin(), order_.end(), size_t{0});
}

Result<QueueMix> QueueMix::parse(std::string_view text) {
  std::vector<Part> parts;
  for (std::string_view entry : split(text, ',')) {
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos) return bad_mix(text, "each queue needs a weight");
    const std::string queue(entry.substr(0, equals));
    if (!protocol::valid_queue_name(queue)) return bad_mix(text, "that is not a queue's name");
    auto weight = parse_integer(entry.substr(equals + 1), 1, kMaxWeight);
    if (!weight) return bad_mix(text, weight.error().message);
    for (const Part& part : parts)
      if (part.queue == queue) return bad_mix(text, "queue " + queue + " is there twice");
    parts.push_back({queue, uint64_t(*weight)});
  }
  if (parts.size() > kMaxQueues)
    return bad_mix(text, fmt::format("more than {} queues", kMaxQueues));
  return QueueMix(std::move(parts));
}

// What is owed is kept for the next, so rounding never adds up.
const std::vector<size_t>& QueueMix::shares(uint64_t count) {
  uint64_t given = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].owed += int64_t(count * parts_[i].weight);
    const int64_t whole = std::max<int64_t>(parts_[i].owed / int64_t(sum_), 0);
    run_[i] = std::min(uint64_t(whole), count - given);
    given += run_[i];
    parts_[i].owed -= int64_t(run_[i] * sum_);
  }
  for (; given < count; ++given) {
    auto most = std::max_element(parts_.begin(), parts_.end(),
                                 [](const Part& a, const Part& b) { return a.owed < b.owed; });
    ++run_[size_t(most - parts_.begin())];
    most->owed -= int64_t(sum_);
  }
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].sent += run_[i];
  return order_;
}

}  // namespace millrace::producer
