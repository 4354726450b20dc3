// The records of a spool (docs/SPOOL.md, section 4) as values, and their codec: the submissions in
// them are SUBMITs of the wire.
// Shape:   encode() → one record;  decode_spool() → each record of a batch's body, with its place
//          in it
// Limits:  a Put holds at most what a SUBMIT may; kMaxRunsPerRecord runs an Answered
// Errors:  65 bytes that are no records of this version: where, and why
// Owns:    nothing: what is decoded points into the body
// Threads: any; no shared state
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/protocol/messages.h"
#include "producer/session/listener.h"

namespace millrace::producer {

inline constexpr uint64_t kSpoolVersion = 1;
inline constexpr size_t kMaxRunsPerRecord = 4096;

struct SpoolCheckpoint {
  Uuid producer;
  uint64_t run = 0;
};
// submit's floor is 0, and its sequences are one run's.
struct SpoolPut {
  protocol::Submit submit;

  SeqRange seqs() const { return {submit.first, submit.payloads.size()}; }
  uint64_t bytes() const;  // of payloads and keys
};
struct SpoolAnswered {
  std::vector<SeqRange> runs;
};
using SpoolRecord = std::variant<SpoolCheckpoint, SpoolPut, SpoolAnswered>;

std::string encode(const SpoolRecord& record);

// Where a record stands in the body.
struct SpoolSpan {
  size_t offset = 0;
  size_t size = 0;
};
// Ends with the first error that `visit` returns, which is of the record at `*at`.
using SpoolVisit = std::function<Result<void>(const SpoolRecord&, SpoolSpan)>;
Result<void> decode_spool(std::string_view body, const SpoolVisit& visit, size_t* at = nullptr);

// Whether a submission can stand in a Put: what the wire can carry.
bool is_spoolable(std::string_view queue, const protocol::SubmitOptions& options);

}  // namespace millrace::producer
