// What a request says of the job, or of the jobs, that it submits.
// Shape:   query priority, delay, ttl, max_attempts, wait; headers Idempotency-Key and Accept; a
//          body of NDJSON as lines, each checked by itself
// Units:   durations as everywhere: 250ms 5s 2m
// Limits:  kMaxBatchLines; a wait of max_wait
// Errors:  bad_data, a sentence that names the parameter, header or line
// Threads: immutable
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/http/message.h"
#include "common/protocol/messages.h"

namespace millrace::producer {

inline constexpr size_t kMaxBatchLines = 10'000;
// Each line of a batch has the key of the batch and its number: KEY/1 to KEY/10000.
inline constexpr size_t kMaxBatchKey = protocol::kMaxKey - 6;

struct JobRequest {
  protocol::SubmitOptions options;  // with the key; its report follows from `wait`
  Millis wait{0};                   // 0: not for the job's end
  bool raw = false;                 // the result as it is, instead of JSON
};
// What the payload is coded with, by any line of Content-Encoding, but for identity, which is
// nothing; cut to what an answer can quote.
std::string_view content_coding(const http::Request& request);
// Accept names application/octet-stream, among others or alone.
bool wants_bytes(const http::Request& request);
Result<JobRequest> read_job_request(const http::Request& request, Millis max_wait);
// The same for a batch, which takes no wait.
Result<JobRequest> read_batch_request(const http::Request& request);

struct BatchLine {
  std::string_view payload;  // a view of the body
  std::string fault;         // why it can't be a job; otherwise empty
};
// One for each line; the last may have no line end.
Result<std::vector<BatchLine>> split_batch(std::string_view body);

}  // namespace millrace::producer
