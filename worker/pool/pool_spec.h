// Which pool a worker has, as --pool names it.
// Shape:   single | per-job[:MAX] | fixed[:N] | auto[:MIN-MAX]
// Limits:  1 to kMaxThreads threads
// Errors:  usage, naming what there is
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace millrace::worker {

inline constexpr size_t kMaxThreads = 1024;
// A thread for each job knows no bound of its own; the broker's credit is one all the same.
inline constexpr size_t kMostPerJob = 4096;
inline constexpr size_t kAutoMax = 256;

struct PoolSpec {
  enum class Kind { single, per_job, fixed, automatic };
  Kind kind = Kind::fixed;
  size_t min = 1;  // automatic
  size_t max = 1;  // the only number of fixed and single

  bool operator==(const PoolSpec&) const = default;
  std::string text() const;
};

Result<PoolSpec> parse_pool(std::string_view text);
// A thread for each processor that may be used (usable_cpus.h), and at least 4: what is waiting for
// a disk leaves its core to others.
size_t default_threads();

}  // namespace millrace::worker
