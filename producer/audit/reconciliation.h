// The reconciliation of ledgers with a broker, without files and sockets: what was sent, what was
// answered, and what became of every job that was confirmed.
// Shape:   sent = confirmed + rejected + unknown
//          confirmed = done + dead + live + cancelled + expired + ended + missing, and missing must be 0
//          every sequence is answered at most once, and every job is the answer to one sequence
// Threads: one thread
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "producer/client/ledger.h"

namespace millrace::producer {

class Reconciliation {
 public:
  // Reads the ledgers' side; the broker's side begins at 0.
  explicit Reconciliation(const LedgerEntries& entries);

  // The jobs to ask a broker for, in ascending order without overlaps.
  std::vector<protocol::JobRange> jobs_of(BrokerId broker) const;
  // The broker's answer for some of them.
  void told(protocol::JobRange jobs, protocol::JobState state);
  // No answer is to come for jobs of any broker but these.
  void close(const std::vector<BrokerId>& asked);

  bool balanced() const { return holes_.empty(); }
  // What doesn't fit, a sentence each; at most kMaxHoles of them in words.
  std::vector<std::string> holes() const;
  static constexpr size_t kMaxHoles = 20;

  uint64_t sent = 0;
  uint64_t confirmed = 0;
  uint64_t rejected = 0;
  uint64_t unknown = 0;
  uint64_t done = 0;
  uint64_t dead = 0;
  uint64_t live = 0;
  uint64_t cancelled = 0;
  uint64_t expired = 0;
  uint64_t ended = 0;  // the broker does not know any more how
  uint64_t missing = 0;

 private:
  void hole(std::string text);

  std::map<BrokerId, std::vector<protocol::JobRange>> jobs_;
  std::vector<std::string> holes_;
  uint64_t more_holes_ = 0;
};

}  // namespace millrace::producer
