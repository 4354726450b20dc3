// Whether queues share workers in proportion to their weights.
// Shape:   what each dispatch of the core leased → a violation, if of two queues that both had ready
//          jobs all the time one got more than its share by more than their largest grants together.
//          Compared are queues without other limits, of the same workers, where these have no others: a
//          worker brings along the level of its other queues. Compared from when both have had a
//          grant: whoever was idle comes level with the rest first.
// Units:   of grants: jobs divided by the weight
// Threads: one
// Source:  the fairness measure of start-time fair queueing (Goyal, Vin, Cheng, 1996)
#pragma once

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "broker/core/core.h"

namespace millrace::sim {

class QueueShares {
 public:
  using IsInMemory = std::function<bool(JobId)>;  // its payload

  // Before a call of Core::dispatch(), and after it, with what it sent.
  void before(core::Core& core, const IsInMemory& is_in_memory);
  // The number of pairs that were compared.
  size_t after(const core::Core& core, std::span<const core::Send> sends);

 private:
  using Workers = std::map<SessionId, uint64_t>;  // and how many jobs each has room for
  struct Contender {
    uint64_t weight = 1;
    Workers workers;
    double granted = 0;  // in this dispatch
    double largest = 0;  // grant
  };
  using Contenders = std::map<std::string, Contender, std::less<>>;
  using Names = std::pair<std::string, std::string>;
  // What the first was granted more than the second.
  struct Lead {
    Names names;
    std::pair<uint64_t, uint64_t> weights;
    double now = 0, least = 0, most = 0;
    double largest_of_first = 0, largest_of_second = 0;
    bool counts = false;  // both have had a grant
  };

  void add_grants(std::span<const core::Send> sends);
  static void advance(Lead& lead, const Contender& first, const Contender& second);

  Contenders contenders_;
  std::map<Names, Lead> leads_;
};

}  // namespace millrace::sim
