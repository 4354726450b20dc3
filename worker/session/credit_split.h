// How a worker that demands from several brokers divides what it is willing to hold between them,
// so that its threads have work while one broker is empty or gone, and all get the same while all
// have jobs.
// Shape:   total and each broker's use of its part → each one's part
//          1. A broker that does not fill its part keeps room for twice what it used; the rest goes
//             to those that do, the same for each, as far as they want it.
//          2. Each has at least 1, so that it can show that it has jobs, and the same part is
//             rounded up for all: together they may have one a broker more than the total.
//          3. Where nobody fills its part, what is left is divided evenly.
// Threads: pure
#pragma once

#include <cstdint>
#include <vector>

namespace millrace::worker {

struct Demand {
  bool connected = false;
  uint64_t part = 0;    // that it was given last
  uint64_t peak = 0;    // jobs of it held at a time, since then
  uint64_t demand = 0;  // that it could use at most, by the time that its jobs take

  // It sends whenever it may.
  bool fills() const { return peak > 0 && peak * 4 >= part * 3; }
};

std::vector<uint64_t> split_credit(uint64_t total, const std::vector<Demand>& demands);

}  // namespace millrace::worker
