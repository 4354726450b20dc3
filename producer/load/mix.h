// What the jobs of a load are: how large, and for which queues.
// Shape:   sizes   SIZE | SIZE..SIZE (evenly between) | several with their parts of a hundred, the
//                  percentage before or behind: 64:90%,10KiB:10% or 64,10%:1KiB..10KiB; one of them
//                  may go without and takes the rest
//          queues  NAME=WEIGHT,NAME=WEIGHT,…
// Limits:  kMaxSize bytes; weights of 1 to kMaxWeight, kMaxQueues queues
// Threads: one thread
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace millrace::producer {

class SizeMix {
 public:
  static constexpr int64_t kMaxSize = 256 << 20;

  static Result<SizeMix> parse(std::string_view text);
  static SizeMix of(size_t size) { return SizeMix({{size, size, 100}}); }
  // The size that a number, evenly spread over all 64 bits, stands for.
  size_t size_of(uint64_t number) const;
  size_t largest() const;

 private:
  struct Part {
    size_t min;
    size_t max;
    double percent;
  };
  explicit SizeMix(std::vector<Part> parts) : parts_(std::move(parts)) {}
  std::vector<Part> parts_;
};

class QueueMix {
 public:
  static constexpr int64_t kMaxWeight = 1'000'000;
  static constexpr size_t kMaxQueues = 256;

  struct Part {
    std::string queue;
    uint64_t weight = 1;
    uint64_t sent = 0;
    int64_t owed = 0;  // in parts of the sum of weights
  };
  static Result<QueueMix> parse(std::string_view text);
  static QueueMix of(std::string queue) { return QueueMix({{std::move(queue)}}); }

  // Divides the next `count` submissions among the queues, in runs: calls visit(queue, count). At
  // every moment each queue has had its part of all, to within one job a queue.
  template <typename Visit>
  void divide(uint64_t count, Visit visit) {
    for (size_t i : shares(count))
      if (uint64_t here = run_[i]; here > 0) visit(parts_[i].queue, here);
  }
  const std::vector<Part>& parts() const { return parts_; }

 private:
  explicit QueueMix(std::vector<Part> parts);
  const std::vector<size_t>& shares(uint64_t count);

  std::vector<Part> parts_;
  uint64_t sum_ = 0;
  std::vector<uint64_t> run_;
  std::vector<size_t> order_;
};

}  // namespace millrace::producer
